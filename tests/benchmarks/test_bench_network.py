"""The benchmark of whole training steps: its answers are checked, its file is complete; nothing here depends on how long it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import network
from benchmarks.operators import profile
from efcn_kernels import cnn_to_efcn
from efcn_kernels.bench.run import WrongAnswer

WAYS = {"cnn, NCHW", "cnn, channels_last", "elcn"}


def test_a_run_and_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made" / "networks.json"
    network.main(["skinny", "--batch", "4", "--rounds", "3", "--limit", "1", "--json", str(path)])
    written = json.loads(path.read_text())
    assert {"schema", "date", "machine", "commit", "versions", "settings"} <= set(written)
    (skinny,) = written["networks"]
    assert skinny["name"] == "skinny"
    assert set(skinny["steps"]) == WAYS
    for step in skinny["steps"].values():
        assert len(step["rounds_ms"]) == 3
        assert step["lower_quartile_ms"] <= step["median_ms"] <= step["upper_quartile_ms"]
        assert step["operators_ms"]
    assert min(skinny["steps"][way]["ratio_to_better_cnn"] for way in WAYS - {"elcn"}) == 1
    assert "BsrLinear" in " ".join(skinny["steps"]["elcn"]["operators_ms"])
    # the images, to channels_last and from there to batch-last
    assert skinny["steps"]["elcn"]["copies"] == [[4, 32, 32, 3], [3072, 4]]
    assert all(way in capsys.readouterr().out for way in ["elcn"])


@pytest.mark.parametrize("name", network.NETWORKS)
def test_a_step_computes_every_gradient_and_changes_nothing(name: str) -> None:
    steps = network.trainings(name, 4)
    assert set(steps) == WAYS
    for step in steps.values():
        before, loss = [p.detach().clone() for p in step.network.parameters()], step.loss()
        assert step().isfinite()
        assert step.network.training
        assert step.loss() == loss
        for p, q in zip(step.network.parameters(), before, strict=True):
            assert torch.equal(p, q)
            assert p.grad is not None


def test_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(cnn: nn.Module, x: torch.Tensor) -> nn.Module:
        efcn: nn.Module = mapped(cnn, x)
        with torch.no_grad():
            efcn.get_parameter("conv2.weight")[0] += 1
        return efcn

    mapped = cnn_to_efcn
    monkeypatch.setattr(network, "cnn_to_efcn", other)
    with pytest.raises(WrongAnswer, match=r"skinny: the loss of elcn is .* that of the CNN"):
        network.trainings("skinny", 4)


@pytest.mark.parametrize(
    ("arguments", "says"), [(["lenet"], "one of skinny, alexnet, got 'lenet'"), (["--rounds", "0"], "rounds must be positive, got 0")]
)
def test_bad_input_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        network.main(arguments)
    assert left.value.code == 2
    assert says in capsys.readouterr().err


def test_a_profile_lists_large_copies_and_operators() -> None:
    x = torch.randn(7, 5)

    def step() -> torch.Tensor:
        return x.t().contiguous() + x[:1, :1].clone()

    found = profile(step, 35)
    assert found.copies == [(5, 7)]
    assert profile(step, 1).copies == [(5, 7), (1, 1)]
    assert {"aten::copy_", "aten::add"} <= set(found.self_ms)
