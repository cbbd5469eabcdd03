"""When Triton takes a problem, and with which tiles."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
import torch

from efcn_kernels import BlockLayout, bsr_linear, build_info
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.backends import triton as backend
from efcn_kernels.ops.backends.triton import configs
from efcn_kernels.ops.backends.triton.configs import TILES, Config, Shape, candidates, kind_of, pick
from efcn_kernels.ops.dispatch import Problem
from efcn_kernels.verify.run import plan

CUDA, FLOAT = torch.device("cuda", 0), torch.float32


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What is remembered of this machine belongs to one test."""
    remembered = (backend.missing, candidates, dispatch._log_once)
    for function in remembered:
        function.cache_clear()
    dispatch._found.clear()
    yield
    for function in remembered:
        function.cache_clear()
    dispatch._found.clear()


@pytest.fixture
def without_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "interpreting", lambda: False)


def test_a_machine_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "pip install triton" in build_info()["backends"]["triton"]


def test_a_triton_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton, "__version__", "3.5.1")
    assert backend.missing() == "it needs triton 3.6 or newer, got 3.5.1"


@pytest.mark.usefixtures("without_interpreter")
def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no GPU" in build_info()["backends"]["triton"]


@pytest.mark.usefixtures("without_interpreter")
def test_what_is_refused_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    for device, dtype, says in [
        (torch.device("cpu"), FLOAT, "on a GPU only, got cpu"),
        (CUDA, torch.complex64, "torch.float16, got torch.complex64"),
        (CUDA, FLOAT, "cuda:0 has 7.5"),
    ]:
        reason = backend.backend.refuse(Problem("bsr_linear", device, dtype))
        assert reason is not None
        assert says in reason
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert backend.backend.refuse(Problem("bsr_linear", CUDA, FLOAT)) is None


@pytest.mark.usefixtures("without_interpreter")
def test_named_it_refuses_and_chosen_automatically_it_is_passed_over(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    layout, x, values = BlockLayout.full(1, 1, (3, 2)), torch.ones(1, 1, 2), torch.ones(1, 3, 2)
    with pytest.raises(RuntimeError, match=r"backend 'triton' refuses bsr_linear for torch\.float32 on cpu: "):
        bsr_linear(x, values, layout, backend="triton")
    monkeypatch.setattr(dispatch, "NAMES", ("triton", "reference"))
    with caplog.at_level(logging.INFO, "efcn_kernels"):
        assert torch.equal(bsr_linear(x, values, layout), torch.full((1, 1, 3), 2.0))
    assert "backend triton does not take torch.float32 on cpu: " in caplog.text


def test_verify_takes_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "interpreting", lambda: True)
    assert plan("triton", "all")[:2] == ("triton", ["triton"])
    with pytest.raises(ValueError, match="isa 'avx2' needs the cpu backend"):
        plan("triton", "avx2")


def test_torch_decides_how_float32_is_multiplied() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        for allowed, kind in [(True, "tf32"), (False, "ieee")]:
            matmul.allow_tf32 = allowed
            assert kind_of(FLOAT) == kind
            assert kind_of(torch.float64) == "float64"
            assert kind_of(torch.bfloat16) == kind_of(torch.float16) == "half"
    finally:
        matmul.allow_tf32 = before


def shape(**change: object) -> Shape:
    """64 -> 192 channels, 5 x 5 windows on 8 x 8 sites, 256 images."""
    return Shape("half", 64, 256, 192, 64, 16)._replace(**change)  # type: ignore[arg-type]


def test_tiles_fit_the_problem() -> None:
    assert candidates(shape())[0] == TILES["half"][0]
    assert candidates(shape(rows=9))[0] == TILES["half"][-1], "small tiles where there are few of them"
    assert {c.block_m for c in candidates(shape(m=8))} == {16}
    assert {c.block_n for c in candidates(shape(n=10))} == {16}
    assert {c.block_k for c in candidates(shape(channels=96))} == {32}, "a step in one block: 96 = 3 x 32"
    assert {c.block_k for c in candidates(shape(channels=3))} == {32}, "gathered"
    assert all(c.block_m * c.block_n <= 64 * 64 for c in candidates(shape(load=2)))
    for kind in TILES:
        assert 1 <= len(candidates(shape(kind=kind))) <= 5


def test_a_forward_without_images_has_tiles() -> None:
    assert candidates(shape(m=0))[0].block_m == 16


@pytest.fixture
def milliseconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Config]]:
    """What is timed; the last candidate is the fastest."""
    timed: list[Config] = []

    def measure(_: object, config: Config) -> float:
        timed.append(config)
        return -float(len(timed))

    monkeypatch.setattr(configs, "_milliseconds", measure)
    monkeypatch.setattr(configs, "_can_time", lambda: True)
    monkeypatch.setattr(configs, "_fastest", {})
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    yield timed
    torch.backends.cudnn.benchmark = before


def test_candidates_are_timed_once(milliseconds: list[Config]) -> None:
    choices = candidates(shape())
    for _ in range(2):
        assert pick(shape(), ("a",), lambda _: None) == choices[-1]
        assert milliseconds == list(choices)
    pick(shape(), ("b",), lambda _: None)
    assert len(milliseconds) == 2 * len(choices)


def test_nothing_is_timed_while_a_graph_is_captured(milliseconds: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "_can_time", lambda: False)
    assert pick(shape(), (), lambda _: None) == candidates(shape())[0]
    assert not milliseconds


def test_nothing_is_timed_where_results_are_to_repeat(milliseconds: list[Config], poisoned: None) -> None:
    assert pick(shape(), (), lambda _: None) == candidates(shape())[0]
    assert not milliseconds
