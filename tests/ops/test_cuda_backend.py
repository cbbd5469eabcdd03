"""When the CUDA kernels take a problem, on which path, and why they are missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.suite import correctness, engines, measure, parts
from benchmarks.suite.engines import Engine
from benchmarks.suite.layers import Item
from efcn_kernels import BlockLayout, bsr_linear, build_info
from efcn_kernels.bench import device
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.backends import cuda, reference
from efcn_kernels.ops.dispatch import Problem
from efcn_kernels.ops.sgd import SGD
from efcn_kernels.pattern.index import Index
from tests.support.small_bench import CASE, ROOFS

CUDA, FLOAT = torch.device("cuda", 0), torch.float32
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is remembered of this machine belongs to one test."""
    monkeypatch.delenv("EFCN_CUDA_PATH", raising=False)
    monkeypatch.setattr(dispatch, "wish", "auto")
    remembered = (cuda.missing, dispatch._log_once)
    for function in remembered:
        function.cache_clear()
    dispatch._found.clear()
    yield
    for function in remembered:
        function.cache_clear()
    dispatch._found.clear()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A library that is none, beside a torch for CUDA."""
    library = tmp_path / "_cuda.so"
    library.write_bytes(b"no library at all")
    monkeypatch.setattr(cuda, "library", lambda: library)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    return library


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference backend in the place of cuda, on the CPU."""
    fake = replace(reference.backend, name="cuda", unproven=cuda.UNPROVEN)
    get = dispatch.get
    monkeypatch.setattr(dispatch, "get", lambda name: fake if name == "cuda" else get(name))


def test_why_it_is_missing(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: not built, of another maker, without CUDA, not loadable, without a GPU."""

    def reason() -> str:
        cuda.missing.cache_clear()
        state = build_info()["backends"]["cuda"]
        assert isinstance(state, str)
        return state

    assert reason().startswith("_cuda.so does not load: ")
    assert "too short" in reason() or "invalid ELF" in reason(), "the loader's own words"
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reason() == "torch sees no GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert reason() == "available; only when named: never run on a chip yet"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert reason() == "torch is a CPU-only build, the library needs one for CUDA"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert reason() == "torch is a ROCm build, the library is for CUDA"
    monkeypatch.setattr(cuda, "library", lambda: None)
    assert "EFCN_CUDA=1 and a CUDA toolkit" in reason()


def test_what_is_refused_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(device: torch.device = CUDA, dtype: torch.dtype = FLOAT) -> str | None:
        return cuda.backend.refuse(Problem("bsr_linear", device, dtype))

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert refused(CPU) == "it computes on a CUDA GPU only, got cpu"
    assert str(refused(dtype=torch.complex64)).endswith("torch.float16, got torch.complex64")
    assert refused() == "it needs compute capability 8.0 or newer, cuda:0 has 7.5"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert [refused(dtype=dtype) for dtype in (FLOAT, torch.float64, torch.bfloat16, torch.float16)] == [None] * 4


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    among = (torch.float32, torch.float64, torch.bfloat16)

    def taken(path: str) -> list[torch.dtype]:
        with cuda.forced_path(path):
            return [dtype for dtype in among if cuda.backend.refuse(Problem("bsr_linear", CUDA, dtype)) is None]

    assert (taken("any"), taken("cuda-cores")) == (list(among), list(among))
    for allowed in (False, True):
        with device.tf32(allowed):
            assert taken("matrix-units") == ([torch.float32] if allowed else []) + [torch.bfloat16]
    with cuda.forced_path("matrix-units"):
        assert "not used for float64" in str(cuda.backend.refuse(Problem("bsr_linear", CUDA, torch.float64)))


def test_an_unknown_path_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    says = "EFCN_CUDA_PATH must be one of any, cuda-cores, matrix-units, got 'tensor'"
    with pytest.raises(ValueError, match=says), cuda.forced_path("tensor"):
        pass
    assert "EFCN_CUDA_PATH" not in os.environ
    monkeypatch.setenv("EFCN_CUDA_PATH", "tensor")
    assert cuda.backend.refuse(Problem("bsr_linear", CUDA, FLOAT)) == says
    with cuda.forced_path("cuda-cores"):
        assert cuda.path() == "cuda-cores"
    assert os.environ["EFCN_CUDA_PATH"] == "tensor"
    monkeypatch.setenv("EFCN_CUDA_PATH", "")
    assert cuda.path() == "any"


@pytest.mark.parametrize(("path", "allowed", "passed"), [("any", True, (0, True)), ("cuda-cores", True, (1, False)), ("any", False, (0, False))])
def test_what_the_library_is_given(path: str, allowed: bool, passed: tuple[int, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Contiguous weights and bias, the path's number and whether float32 goes through TF32; a step of SGD by way of a gradient."""
    calls: list[tuple[Any, ...]] = []

    class Library:
        def __getattr__(self, op: str) -> Any:
            return lambda *operands: calls.append((op, *operands))

    monkeypatch.setattr(torch.ops, "efcn_cuda", Library(), raising=False)
    layout = BlockLayout.full(2, 2, (3, 4))
    index: Index = layout.index(CPU)
    x, y, values, bias = torch.ones(5, 2, 4), torch.empty(5, 2, 3), torch.ones(4, 4, 3).transpose(1, 2), torch.ones(3, 2).T
    with cuda.forced_path(path), device.tf32(allowed):
        cuda.bsr_linear(y, x, values, bias, index)
        cuda.bsr_linear_backward_input(x, y, values, index)
        cuda.bsr_linear_backward_weight(values, y, x, index)
        cuda.bsr_linear(y.double(), x.double(), values.double(), None, index)
        weights = values.contiguous()
        before = weights.clone()
        cuda.bsr_linear_backward_weight_sgd(weights, None, y, x, torch.zeros(4, 3, 4, dtype=torch.bool), SGD(0.5, 0.0, 1.0, False), index)
    names = [f"bsr_linear{part}" for part in ("", "_backward_input", "_backward_weight", "", "_backward_weight")]
    assert [op for op, *_ in calls] == names
    assert [tuple(call[-2:]) for call in calls] == [passed] * 3 + [(passed[0], False), passed]
    assert all(t.is_contiguous() for t in calls[0][3:] if isinstance(t, Tensor))
    assert calls[0][4].equal(bias)
    assert calls[1][-5:-2] == (index.tcrow, index.tcol, index.tblock)
    torch.testing.assert_close(weights, before * 0.5)


@pytest.mark.usefixtures("there")
def test_unproven_it_computes_only_when_named(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, x, values = BlockLayout.full(1, 1, (3, 2)), torch.ones(1, 1, 2), torch.ones(1, 3, 2)
    assert bsr_linear(x, values, layout, backend="cuda").equal(torch.full((1, 1, 3), 2.0))
    problem = Problem("bsr_linear", CPU, FLOAT)
    monkeypatch.setattr(dispatch, "NAMES", ("cuda", "reference"))
    with caplog.at_level(logging.INFO, "efcn_kernels"):
        assert dispatch.implementation("auto", problem) == reference.bsr_linear
    assert "backend cuda does not take torch.float32 on cpu: never run on a chip yet" in caplog.text
    monkeypatch.setattr(dispatch, "wish", "cuda")
    assert dispatch.implementation("auto", problem) == dispatch.get("cuda").bsr_linear
    monkeypatch.setattr(dispatch, "get", lambda name: replace(reference.backend, name=name))
    monkeypatch.setattr(dispatch, "wish", "auto")
    assert build_info()["backends"]["cuda"] == "available"


def test_named_where_it_is_missing_it_says_why() -> None:
    if cuda.missing() is None:
        pytest.skip("the CUDA library is there and torch sees a GPU: nothing is missing")
    with pytest.raises(RuntimeError, match=r"backend 'cuda' refuses bsr_linear for torch\.float32 on cpu: "):
        bsr_linear(torch.ones(1, 1, 2), torch.ones(1, 3, 2), BlockLayout.full(1, 1, (3, 2)), backend="cuda")


@pytest.mark.usefixtures("there")
def test_the_suite_checks_every_path_and_times_it_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"cpu": "available", "cuda": dispatch.get("cuda").state, "reference": "available"}
    monkeypatch.setattr(device, "build_info", lambda: {"backends": known})
    assert device.best_backend(CPU, FLOAT) == "cpu", "what is unproven is never the best"
    found, absent = engines.engines(CPU)
    assert found == [Engine("cpu"), Engine("cuda", "cuda-cores"), Engine("cuda", "matrix-units"), Engine("reference")]
    assert not absent
    items = correctness.items(CPU)
    for path in ("cuda-cores", "matrix-units"):
        assert items[f"cuda on {path}, 1->1 k3"]()["worst"] <= 1
    timed = measure.measure(Item(CASE, 8, "float32"), CPU, ROOFS, 3, 0.5)
    assert set(timed["steps"]["ours by cuda"]["variants_ms"]) == {"batch-last", "channels_last"}
    assert set(timed["others"]["cuda backend"]["forward"]["variants_ms"]) == {"batch-last", "channels_last"}


def test_the_suite_says_why_it_leaves_cuda_out() -> None:
    if cuda.missing() is None:
        pytest.skip("the CUDA library is there and torch sees a GPU: nothing is missing")
    reason = str(cuda.missing())
    assert engines.engines(CPU)[1] == {"cuda": reason}
    assert correctness.items(CPU)["cuda, every geometry"]() == {"comparisons": 0, "worst": 0.0, "absent": reason}
    assert parts.Setting(CPU).identity()["cuda"] == reason, "what was left out is measured once the library is there"
