"""Every backend and instruction set against a dense float64 oracle: shapes, dtypes, patterns and memory orders."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from efcn_kernels import BlockLayout, bsr_linear
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.backends import cpu
from tests.support.judge import check, check_equal, check_pass, setting
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, expected, random_layout, run_passes
from tests.support.problems import CONV_PATTERNS, DTYPES, ODD_PATTERNS, OPS, tensors

BLOCKS = [(64, 3), (10, 64), (17, 29), (1, 1), (1, 3), (8, 8), (3, 17)]
BATCHES = [0, 1, 7, 16, 17, 63, 250]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_batches_and_blocks(engine: Engine, block: tuple[int, int], dtype: torch.dtype, poisoned: None) -> None:
    layout = random_layout(5, 7, block, 0.4, seed=sum(block))
    for n in BATCHES:
        x, values, bias, gy = tensors(layout, n, dtype, bias=n % 2 == 1)
        check(engine, layout, x, values, bias, gy)
        check(engine, layout, ORDERS["batch-last"](x), values, bias, ORDERS["batch-last"](gy))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", list(ORDERS))
def test_memory_orders(engine: Engine, order: str, dtype: torch.dtype, poisoned: None) -> None:
    """Each of x, gy and values in that order, the other two contiguous, then all of them."""
    view = ORDERS[order]
    for block in [(5, 3), (16, 8), (1, 1)]:
        layout = random_layout(6, 5, block, 0.5)
        for n in (1, 17, 33):
            x, values, bias, gy = tensors(layout, n, dtype)
            check(engine, layout, view(x), values, bias, gy)
            check(engine, layout, x, values, bias, view(gy))
            check(engine, layout, x, view(values), bias, gy)
            check(engine, layout, view(x), view(values), bias, view(gy))


@pytest.mark.parametrize("halo", [0, 1])
@pytest.mark.parametrize("name", list(CONV_PATTERNS))
def test_patterns_of_convolutions(engine: Engine, name: str, halo: int, poisoned: None) -> None:
    layout = BlockLayout.from_conv(CONV_PATTERNS[name], halo)
    for dtype, n in [(torch.float32, 41), (torch.float64, 3), (torch.bfloat16, 9)]:
        x, values, bias, gy = tensors(layout, n, dtype)
        for order in ("contiguous", "batch-last", "nchw"):
            check(engine, layout, ORDERS[order](x), values, bias, ORDERS[order](gy))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", list(ODD_PATTERNS))
def test_odd_patterns(engine: Engine, name: str, dtype: torch.dtype, poisoned: None) -> None:
    layout = ODD_PATTERNS[name]
    for n in (0, 1, 19):
        for bias in (True, False):
            x, values, offset, gy = tensors(layout, n, dtype, bias)
            check(engine, layout, x, values, offset, gy)
            check(engine, layout, ORDERS["batch-last"](x), values, offset, ORDERS["batch-last"](gy))


def test_a_long_sum_in_half_precision(engine: Engine) -> None:
    """2,048 products of one sign: adding them up in the half type itself would be off by percents."""
    layout = BlockLayout.full(2, 64, (3, 32))
    for dtype in (torch.bfloat16, torch.float16):
        x, values, bias, gy = (t.abs() if t is not None else None for t in tensors(layout, 300, dtype))
        assert x is not None
        assert values is not None
        assert gy is not None
        check(engine, layout, x / 8, values / 8, bias, gy / 8)


def test_values_far_from_one(engine: Engine) -> None:
    layout = random_layout(4, 4, (3, 5), 0.6)
    x, values, bias, gy = tensors(layout, 9, torch.float32)
    for scale in (1e-18, 1e15):
        check(engine, layout, x * scale, values * scale, bias, gy * scale)


def test_the_functional_form(engine: Engine) -> None:
    layout = random_layout(5, 4, (3, 2), 0.5)
    x, values, bias, gy = tensors(layout, 5, torch.float32)
    y = bsr_linear(x, values, layout, bias, backend=engine.backend)
    given = {"x": x, "values": values, "bias": bias}
    check_equal([y], [run_passes(engine, x, values, bias, gy, layout).y], OPS, setting(engine, layout, given, "by bsr_linear and by torch.ops"))


def test_masked_entries_do_not_count(engine: Engine) -> None:
    layout = BlockLayout.from_mask(torch.rand(12, 10) > 0.5, (3, 2))
    assert layout.mask is not None
    x, values, bias, gy = tensors(layout, 5, torch.float64)
    y = bsr_linear(x, values, layout, bias, backend=engine.backend)
    where = setting(engine, layout, {"x": x, "values": values, "bias": bias})
    check_pass(OPS[0], y, expected(x, values * layout.mask, bias, gy, layout)[0], layout, where)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.zeros(2, 4, 3)}, "(N, 4, 2), got (2, 4, 3)"),
        ({"x": torch.zeros(4, 2)}, "(N, 4, 2), got (4, 2)"),
        ({"values": torch.zeros(1, 3, 2)}, "(20, 3, 2), got (1, 3, 2)"),
        ({"bias": torch.zeros(3)}, "(5, 3), got (3,)"),
        ({"values": torch.zeros(20, 3, 2, dtype=torch.float64)}, "torch.float32 and torch.float64"),
        ({"bias": torch.zeros(5, 3, dtype=torch.float64)}, "torch.float32 and torch.float64"),
        ({"values": torch.zeros(20, 3, 2, device="meta")}, "cpu and meta"),
        ({"x": torch.zeros(2, 4, 2, dtype=torch.int64), "values": torch.zeros(20, 3, 2, dtype=torch.int64), "bias": None}, "torch.int64"),
        ({"backend": "cudnn"}, "'cudnn'"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], says: str) -> None:
    layout = BlockLayout.full(5, 4, (3, 2))
    good = {"x": torch.zeros(2, 4, 2), "values": torch.zeros(20, 3, 2), "bias": torch.zeros(5, 3)}
    with pytest.raises((ValueError, RuntimeError), match=re.escape(says)):
        bsr_linear(layout=layout, **good | change)  # type: ignore[arg-type]


def test_a_named_backend_that_is_missing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = BlockLayout.full(1, 1, (3, 2))
    monkeypatch.setattr(cpu, "missing", lambda: "not built today")
    monkeypatch.setattr(dispatch, "_found", {})
    absent = dispatch.Backend("cpu", lambda: "not built today", lambda _: None, *[cpu.bsr_linear] * 4)
    monkeypatch.setattr(dispatch, "get", lambda name, real=dispatch.get: absent if name == "cpu" else real(name))
    x, values = torch.zeros(1, 1, 2), torch.zeros(1, 3, 2)
    with pytest.raises(RuntimeError, match=r"backend 'cpu' refuses bsr_linear for torch\.float32 on cpu: not built today"):
        bsr_linear(x, values, layout, backend="cpu")
    assert bsr_linear(x, values, layout).shape == (1, 1, 3), "chosen automatically it falls through"


@pytest.mark.parametrize(
    ("name", "told"), [("reference", "reference"), ("cudnn", "backend must be one of auto, cpu, cuda, triton, reference, got 'cudnn'")]
)
def test_the_environment_names_a_backend(name: str, told: str) -> None:
    """It is read when the package is imported."""
    code = (
        "import torch; from efcn_kernels.ops import dispatch as d\n"
        "try: print(d.implementation('auto', d.Problem('bsr_linear', torch.device('cpu'), torch.float32)).__module__)\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"EFCN_BACKEND": name}, capture_output=True, text=True, timeout=120, check=True
    )
    assert told in done.stdout


def test_a_forced_backend_is_seen_by_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though what was found for a problem before is kept."""
    layout, seen = BlockLayout.full(1, 1, (3, 2)), []
    x, values = torch.zeros(1, 1, 2), torch.zeros(1, 3, 2)
    bsr_linear(x, values, layout)
    for name in ("reference", "auto"):
        with dispatch.forced_backend(name):
            seen.append(dispatch.implementation("auto", dispatch.Problem("bsr_linear", x.device, x.dtype)))
    assert seen[0] == dispatch.get("reference").bsr_linear
    assert seen[1] == dispatch.get("reference" if cpu.missing() else "cpu").bsr_linear
    with dispatch.forced_backend("cudnn"), pytest.raises(ValueError, match="'cudnn'"):
        bsr_linear(x, values, layout)


def test_an_unknown_instruction_set_is_refused() -> None:
    if cpu.missing():
        pytest.skip(f"no instruction set to choose: {cpu.missing()}")
    with pytest.raises(RuntimeError, match="avx1024"), cpu.forced_isa("avx1024"):
        pass
    assert cpu.isa() in cpu.isas()
