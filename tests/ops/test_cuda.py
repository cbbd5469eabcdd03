"""The CUDA kernels against the dense float64 oracle, on a GPU, each path by itself; tests/ops/test_cuda_kernels.py runs their code on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout, bsr_linear
from efcn_kernels.ops.backends import cuda
from efcn_kernels.ops.dispatch import Problem
from efcn_kernels.ops.sgd import SGD, sgd_step
from tests.support import judge, problems
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, random_layout, run_passes
from tests.support.problems import CONV_PATTERNS, DTYPES, ODD_PATTERNS, OPS

if (reason := cuda.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)
pytestmark = pytest.mark.usefixtures("poisoned", "path")
BLOCKS = [(1, 1), (3, 5), (17, 29), (64, 3), (10, 16), (72, 40), (136, 8)]


@pytest.fixture(params=cuda.PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Only kernels of this path compute."""
    with cuda.forced_path(request.param):
        yield request.param


def tensors(layout: BlockLayout, n: int, dtype: torch.dtype, bias: bool = True) -> list[Any]:
    """[x, values, bias, gy] on the GPU, contiguous; skips what the path does not take."""
    if reason := cuda.backend.refuse(Problem("bsr_linear", torch.device("cuda", 0), dtype)):
        pytest.skip(reason)
    return [t if t is None else t.cuda() for t in problems.tensors(layout, n, dtype, bias)]


def check(layout: BlockLayout, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor) -> None:
    judge.check(Engine("cuda", cuda.path()), layout, x, values, bias, gy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_batches_and_blocks(block: tuple[int, int], dtype: torch.dtype) -> None:
    layout = random_layout(3, 4, block, 0.5, seed=sum(block))
    for n, order in [(0, "contiguous"), (1, "batch-last"), (3, "contiguous"), (8, "batch-last"), (33, "contiguous"), (250, "batch-last")]:
        x, values, bias, gy = tensors(layout, n, dtype, bias=n % 2 == 1)
        check(layout, ORDERS[order](x), values, bias, ORDERS[order](gy))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", list(ORDERS))
def test_memory_orders(order: str, dtype: torch.dtype) -> None:
    """Each of x, gy and values in that order."""
    view = ORDERS[order]
    for block in [(5, 3), (16, 8)]:
        layout = random_layout(3, 4, block, 0.5)
        for n in (1, 17):
            x, values, bias, gy = tensors(layout, n, dtype)
            check(layout, view(x), values, bias, gy)
            check(layout, x, view(values), bias, view(gy))


@pytest.mark.parametrize(("name", "halo"), [*((name, 0) for name in CONV_PATTERNS), ("dilated", 1), ("depthwise", 1)])
def test_patterns_of_convolutions(name: str, halo: int) -> None:
    layout = BlockLayout.from_conv(CONV_PATTERNS[name], halo)
    x, values, bias, gy = tensors(layout, 70, torch.bfloat16)
    check(layout, ORDERS["nchw"](x), values, bias, ORDERS["batch-last"](gy))


@pytest.mark.parametrize("name", list(ODD_PATTERNS))
def test_odd_patterns(name: str) -> None:
    """Empty rows, empty columns, no block at all."""
    for bias in (False, True):
        check(ODD_PATTERNS[name], *tensors(ODD_PATTERNS[name], 5, torch.bfloat16, bias))


def test_the_same_bits_in_every_run() -> None:
    layout = random_layout(9, 9, (24, 40), 0.5)
    x, values, bias, gy = tensors(layout, 250, torch.bfloat16)
    first, *others = [run_passes(Engine("cuda", None), x, values, bias, gy, layout) for _ in range(5)]
    for other in others:
        where = judge.setting(f"cuda {cuda.path()}", layout, {"x": x, "values": values, "bias": bias, "gy": gy}, "against the first run")
        judge.check_equal(other, first, OPS, where)


def test_a_step_of_sgd() -> None:
    layout = random_layout(3, 4, (16, 8), 0.5)
    x, values, _, gy = tensors(layout, 20, torch.bfloat16)
    index, rule = layout.index(x.device), SGD(0.1, 0.9, 0.01, True)
    weights, momentum, gradient = values.clone(), torch.ones_like(values), torch.empty_like(values)
    cuda.bsr_linear_backward_weight_sgd(weights, momentum, gy, x, None, rule, index)
    cuda.bsr_linear_backward_weight(gradient, gy, x, index)
    wanted, wanted_momentum = values.clone(), torch.ones_like(values)
    sgd_step(wanted, wanted_momentum, gradient, rule)
    where = judge.setting(f"cuda {cuda.path()}", layout, {"values": values, "x": x, "gy": gy}, "fused against the gradient and a step")
    judge.check_equal([weights, momentum], [wanted, wanted_momentum], ("bsr_linear_backward_weight_sgd, values", "momentum_buffer"), where)


def test_on_another_stream() -> None:
    layout = random_layout(3, 4, (16, 8), 0.5)
    x, values, bias, _ = tensors(layout, 20, torch.bfloat16)
    wanted = bsr_linear(x, values, layout, bias, backend="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # what comes late on the stream is waited for there and nowhere else
        torch.cuda._sleep(10_000_000)
        got = bsr_linear(x + 0, values, layout, bias, backend="cuda")
    torch.cuda.current_stream().wait_stream(stream)
    judge.check_equal([got], [wanted], OPS, judge.setting(f"cuda {cuda.path()}", layout, {"x": x, "values": values}, "on another stream"))


def test_errors_name_the_op_and_repeat_shapes() -> None:
    layout = random_layout(3, 4, (16, 8), 0.5)
    x, values, _, _ = tensors(layout, 20, torch.bfloat16)
    index, y = layout.index(x.device), x.new_empty(20, 3, 15)
    with pytest.raises(ValueError, match=r"efcn_cuda::bsr_linear: channels out differ: x \(20, 4, 8\), y \(20, 3, 15\)"):
        cuda.bsr_linear(y, x, values, None, index)
    with pytest.raises(ValueError, match="efcn_cuda::bsr_linear: crow must be on a CUDA GPU"):
        cuda.bsr_linear(x.new_empty(20, 3, 16), x, values, None, index._replace(crow=index.crow.cpu()))
