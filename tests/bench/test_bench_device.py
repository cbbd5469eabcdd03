"""Measuring on another device than the CPU, as far as that shows without one."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.suite import correctness, measure, small, tools, torch_bsr
from benchmarks.suite.checks import check_pass, check_step
from benchmarks.suite.layers import Item
from efcn_kernels.bench import device
from efcn_kernels.bench.competitors import COMPETITORS, UnfoldCompiled
from efcn_kernels.bench.run import WrongAnswer, check
from efcn_kernels.bench.step import ORDERS, Ours
from efcn_kernels.bench.timing import HOST
from efcn_kernels.ops import build_info
from efcn_kernels.verify import tolerance
from efcn_kernels.verify.run import plan
from tests.support.small_bench import CASE, ROOFS

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run Triton's kernels in its interpreter, which takes seconds for what is timed here."""
    known = {name: state for name, state in build_info()["backends"].items() if name != "triton"}
    monkeypatch.setattr(device, "build_info", lambda: {"backends": known})


def test_everything_stays_on_the_device() -> None:
    """On torch's device without memory: whatever would go to the CPU instead would show or raise."""
    ours = Ours.make(CASE, 4, torch.float32, "meta")
    tensors = [*ours.answers, *ours.absolute]
    for order in ORDERS:
        found: list[Any] = [*ours.passes(order).values(), ours.step(order), ours.step(order, grad_input=False)]
        tensors += [t for step in found for result in [step()] for t in ([result] if isinstance(result, Tensor) else result)]
    for name in ("conv", "linear", "unfold"):
        tensors += [t for answers in COMPETITORS[name](ours).compare(ours).values() for t in answers]
    assert {t.device.type for t in tensors} == {"meta"}


@pytest.mark.parametrize("order", ORDERS)
def test_orders_give_the_same(order: str) -> None:
    ours = Ours.make(CASE, 5, torch.float32)
    for name, step in ours.passes(order, "reference").items():
        check_pass("reference", name, step(), ours, 0.0)
    check_step("ours", ours.step(order, backend="reference")(), ours, 0.0)
    check_step("ours", ours.step(order, grad_input=False)(), ours, 0.0, grad_input=False)


@pytest.mark.parametrize("name", ["forward", "grad_input", "grad_weight"])
def test_a_wrong_pass_is_found(name: str) -> None:
    ours = Ours.make(CASE, 5, torch.float32)
    got: Any = ours.passes()[name]()
    tensor = got[0] if isinstance(got, list) else got
    tensor[1, 1, 1] += 0.01
    with pytest.raises(WrongAnswer, match=f"small: {name} of x is .* times as far"):
        check_pass("x", name, got, ours, 0.0)


@pytest.mark.parametrize("name", ["conv", "linear", "unfold"])
def test_competitors_compute_the_same_in_half_precision(name: str) -> None:
    ours = Ours.make(CASE, 40, torch.bfloat16)
    check(name, COMPETITORS[name](ours), ours)


def test_unfold_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnfoldCompiled, "compiler", "aot_eager")
    ours = Ours.make(CASE, 4, torch.float32)
    check("unfold-compiled", UnfoldCompiled(ours), ours)


def test_a_layer_is_timed_only_where_something_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def disagree(name: str, *_: Any) -> str:
        raise WrongAnswer(f"{name} is far off")

    item = Item(CASE, 8, "float32")
    found = measure.measure(item, CPU, ROOFS, 3, 0.1)
    assert (found["backend"], found["precision"]) == (device.best_backend(CPU, torch.float32), "float32")
    monkeypatch.setattr(measure, "contender", disagree)
    with pytest.raises(WrongAnswer, match="nothing agrees with our answers: conv is far off; linear"):
        measure.measure(item, CPU, ROOFS, 3, 0.1)


@pytest.mark.parametrize(("error", "says"), [(torch.OutOfMemoryError("no"), "needs more memory"), (WrongAnswer("far off"), "disagrees: far off")])
def test_what_another_backend_cannot_do_stops_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception, says: str) -> None:
    def passes(ours: Ours, backend: str, *_: Any) -> Any:
        if backend == "reference":
            raise error
        return {name: {"": step} for name, step in ours.passes().items()}

    monkeypatch.setattr(measure, "best_backend", lambda *_: "auto")
    monkeypatch.setattr(measure, "our_passes", passes)
    found = measure.measure(Item(CASE, 8, "float32"), CPU, ROOFS, 3, 5.0)
    assert found["skipped"]["reference backend"].startswith(says)
    assert set(found["passes"]) == {"forward", "grad_input", "grad_weight"}


def test_backends_say_why_not() -> None:
    found = device.backends(CPU, torch.float64)
    assert found["reference"] is None
    assert all(reason is None or len(reason) > 10 for reason in found.values())


def test_switches_come_back() -> None:
    def states() -> list[bool]:
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]

    before = states()
    for allowed in (True, False):
        with device.tf32(allowed):
            assert states() == [allowed, allowed]
    assert states() == before


def test_a_device_is_timed_by_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            told.append("event")

        def synchronize(self) -> None:
            told.append("wait")

        def elapsed_time(self, other: Event) -> float:
            return 2.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: told.append("busy"))
    monkeypatch.setattr(device, "_FLUSHED_BYTES", 8)
    events = device._Events(CPU, flush=True)
    assert events.seconds(lambda: told.append("step"), 2) == pytest.approx(0.004)
    assert told == ["busy", "event", "step", "event", "wait"] * 2
    del told[:]
    device._Events(CPU, flush=False).seconds(lambda: told.append("step"), 1)
    assert told == ["event", "step", "event", "wait"]


def test_rounding_on_the_way_is_allowed_for() -> None:
    parts = torch.full((256,), 1 + 2**-8, dtype=torch.float64)
    kept, exact = parts.bfloat16().double().sum(), parts.sum()
    scale = exact.clone()
    assert tolerance.ratio(kept.float(), exact, scale) > 1
    assert tolerance.ratio(kept.float(), exact, scale + tolerance.rounded(scale, torch.bfloat16)) < 1
    assert tolerance.disagreement(torch.ones(2, 3), torch.ones(3, 2), torch.ones(3, 2)) == float("inf")


def test_cut_operands_are_allowed_for() -> None:
    exact = torch.full((4,), 1.0, dtype=torch.float64)
    cut = (exact * (1 - 2**-10) ** 2).float()
    assert tolerance.ratio(cut, exact, exact) > 1
    assert tolerance.ratio(cut, exact, exact, operands=device.PRECISIONS["tf32"].rounding) <= 1
    assert device.PRECISIONS["float32"].rounding == 0


@pytest.mark.filterwarnings("ignore:Sparse BSR tensor support is in beta:UserWarning")
def test_torchs_own_blocks() -> None:
    ours = Ours.make(CASE, 16, torch.float32)
    assert "GPUs only" in str(torch_bsr.passes(ours, 0.0))
    for name, through in torch_bsr.products(ours).items():
        got = torch_bsr.in_our_form(ours, name, through(lambda weight, dense: weight.to_dense() @ dense)())
        check_pass("torch BSR", name, got, ours, 0.0)


def test_small_layers_for_tools_that_watch(capsys: pytest.CaptureFixture[str]) -> None:
    small.main(CPU)
    absent, *lines = capsys.readouterr().out.splitlines()
    assert absent.startswith("cuda: not there, ")
    assert len(lines) == len(small.CASES) * len(small.DTYPES)
    assert all(line.endswith("right") for line in lines)


def test_tools_that_are_missing_or_find_something() -> None:
    assert "is not on the PATH" in tools.output_of(("no-such-tool",), 1)["output"][0]
    assert tools.output_of((sys.executable, "-c", "print('0 errors')"), 60)["output"] == ["0 errors"]
    with pytest.raises(RuntimeError, match=r"code 9: bad read"):
        tools.output_of((sys.executable, "-c", "print('bad read'); exit(9)"), 60)


def test_kernel_tests_run_on_gpus_only() -> None:
    assert tools.kernel_tests(CPU, 1.0) == {}
    names = set(tools.kernel_tests(torch.device("cuda"), 1.0))
    assert names >= {"test_triton.py", "test_cuda.py"}
    assert all(name.startswith(("test_triton", "test_cuda")) for name in names)


def test_correctness_covers_every_geometry_and_backend() -> None:
    items = correctness.items(CPU)
    name = "reference, 1->1 k3"
    assert items[name]()["worst"] <= 1
    assert not [item for item in items if item.endswith("tf32")]


def test_verify_takes_a_device() -> None:
    with pytest.raises(ValueError, match="compute on the CPU, got backend 'cpu'"):
        plan("cpu", "all", (), "cuda")
    assert plan("auto", "all", (), "cuda")[:2] == ("auto", ["auto"])


def test_no_gpu_no_hardware() -> None:
    assert device.hardware(CPU) == {}
    assert device.clock(CPU) is HOST
