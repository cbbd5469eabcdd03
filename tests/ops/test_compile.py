"""torch.compile: one graph, and no new compilation for another batch size."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import nn

from efcn_kernels import EFCNLinear, LocallyConnected2d, batch_last, cnn_to_efcn
from tests.support.oracle import random_layout

COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
# torch's own compiler warns of its own deprecated parts
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Counting:
    """A dynamo backend that counts the graphs it is given."""

    def __init__(self, name: str) -> None:
        self.graphs = 0
        self.inner: Any = torch._dynamo.lookup_backend(name)

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return self.inner(graph, inputs)


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "EFCNLinear": (lambda: EFCNLinear(8, 15, random_layout(5, 4, (3, 2), 0.5)), (8,)),
    "LocallyConnected2d": (lambda: LocallyConnected2d(2, 3, 6, 3, padding=1), (2, 6, 6)),
    "halo and groups": (lambda: LocallyConnected2d(4, 2, 6, 3, padding=1, groups=2, support=1), (4, 6, 6)),
    "network": (
        lambda: cnn_to_efcn(
            nn.Sequential(nn.Conv2d(2, 3, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 5)),
            torch.zeros(2, 2, 6, 6),
        ),
        (2, 6, 6),
    ),
}


def run(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The output and every gradient."""
    x = x.detach().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize(("backend", "name"), [*(("aot_eager", name) for name in MODELS), *([("inductor", "network")] if COMPILER else [])])
def test_one_graph_for_every_batch_size(backend: str, name: str) -> None:
    torch._dynamo.reset()
    make, shape = MODELS[name]
    model = make()
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (41, 7, 63):
            x = torch.randn(n, *shape)
            for a, b in zip(run(compiled, x), run(model, x), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["LocallyConnected2d", "EFCNLinear"])
def test_default_settings_settle_after_one_more_graph(name: str) -> None:
    """Without `dynamic`, torch compiles for the first size, then once for all."""
    torch._dynamo.reset()
    make, shape = MODELS[name]
    model = make()
    counting = Counting("aot_eager")
    compiled: Any = torch.compile(model, fullgraph=True, backend=counting)
    for n in (41, 7, 16, 63, 2):
        run(compiled, torch.randn(n, *shape))
    assert counting.graphs <= 2


def test_a_batch_as_large_as_an_index_array() -> None:
    """The lengths of the index arrays are no batch sizes: a first batch that happens to equal one must not be tied to it."""
    torch._dynamo.reset()
    model = EFCNLinear(8, 15, random_layout(5, 4, (3, 2), 0.5))
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (5, 7, 16):
            run(compiled, torch.randn(n, 8))


def test_a_marked_batch_axis() -> None:
    torch._dynamo.reset()
    model = LocallyConnected2d(2, 3, 6, 3, padding=1)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (41, 7, 16):
            x = torch.randn(n, 2, 6, 6)
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(compiled(x), model(x))


def test_batch_last_inputs_stay_batch_last() -> None:
    torch._dynamo.reset()
    model = LocallyConnected2d(2, 3, 6, 3, padding=1)
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (41, 9, 63):
            x = batch_last(torch.randn(n, 2, 6, 6))
            y = compiled(x)
            torch.testing.assert_close(y, model(x))
            assert y.stride(0) == 1


def test_export() -> None:
    model = LocallyConnected2d(2, 3, 6, 3, padding=1).eval()
    x = torch.randn(4, 2, 6, 6)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2, max=512)},))
    more = torch.randn(9, 2, 6, 6)
    torch.testing.assert_close(exported.module()(more), model(more))
