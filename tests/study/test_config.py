"""The configuration: the paper's protocol by default, and every mistake by name."""

from pathlib import Path

import pytest

from efcn_kernels.study.config import Config, ConfigError, load, paper_times
from efcn_kernels.study.run import plan

EXAMPLES = Path(__file__).parents[2] / "examples"


def _load(folder: Path, text: str, *overrides: str) -> Config:
    path = folder / "study.toml"
    path.write_text(text)
    return load(path, overrides)


def test_nothing_given_is_the_protocol_of_the_paper(tmp_path: Path) -> None:
    config = _load(tmp_path, "")
    assert (config.data.name, config.network.name, config.cnn.epochs, config.cnn.batch_size) == ("cifar10", "skinny", 150, 250)
    for training in (config.cnn, config.relax):
        assert (training.learning_rate, training.momentum, training.weight_decay) == (0.1, 0.0, 0.0)
    assert (config.relax.followers, config.relax.controls, config.relax.epochs) == (("eFCN",), ("FCN",), 100)
    assert config.times == (0, 1, 2, 3, 4, 6, 8, 10, 13, 18, 23, 30, 40, 52, 67, 88, 115, 150)


def test_times_of_other_lengths() -> None:
    assert paper_times(1) == (0, 1)
    assert paper_times(10)[-1] == 10


def test_overrides_and_a_round_trip(tmp_path: Path) -> None:
    text = '[data]\nname = "mnist"\n[relax]\ntimes = [1, 5]\nfollowers = ["eLCN", "halo-2"]\n'
    config = _load(tmp_path, text, "relax.epochs=5", "data.name=fashion-mnist", "run.seeds=[3, 4]", "relax.learning_rate = 1")
    assert (config.relax.epochs, config.data.name, config.run.seeds, config.relax.learning_rate) == (5, "fashion-mnist", (3, 4), 1.0)
    assert _load(tmp_path, config.toml()) == config


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[cnn]\nlerning_rate = 1", ["unknown key 'cnn.lerning_rate'", "did you mean 'learning_rate'?"]),
        ("[cnn]\nzzz = 1", ["unknown key 'cnn.zzz'", "expected one of learning_rate, momentum"]),
        ("[relx]\nepochs = 1", ["unknown section 'relx'", "did you mean 'relax'?"]),
        ("[cnn]\nepochs = '5'", ["cnn.epochs = '5'", "integer"]),
        ("[cnn]\nepochs = true", ["cnn.epochs = True", "integer"]),
        ("[cnn]\nepochs = 0", ["cnn.epochs = 0", "greater than or equal to 1"]),
        ("[cnn]\nlearning_rate = nan", ["cnn.learning_rate", "finite"]),
        ("[cnn]\nmomentum = 1.0", ["cnn.momentum = 1.0", "less than 1"]),
        ("[relax]\ntimes = [3, 1]", ["relax.times", "ascending"]),
        ("[relax]\ntimes = []", ["relax.times", "at least one"]),
        ("[relax]\ntimes = [1, 151]", ["relax.times [151] lie beyond the CNN's cnn.epochs = 150"]),
        ("[relax]\nfollowers = 'eLCN'\n[cnn]\nepochs = 0", ["relax.followers = 'eLCN'", "a list in brackets", "cnn.epochs = 0"]),
        ("[relax]\ntimes = 'papr'", ["relax.times", "'paper'"]),
        ("[relax]\nfollowers = ['eLCM']", ["'eLCM'", "did you mean 'eLCN'?"]),
        ("[relax]\nfollowers = ['halo-0']", ["'halo-0'", "halo-1"]),
        ("[relax]\ncontrols = ['CN']", ["relax.controls.0 = 'CN'", "'FCN-norms'"]),
        ("[relax]\ncontrols = ['CNN', 'CNN']", ["relax.controls", "each name once"]),
        (
            "[relax]\nfollowers = ['eLCN']\ncontrols = ['CNN']\noff_local_start = 0.1\noff_local_weight_decay = 1e-3",
            ["relax.off_local_weight_decay = 0.001, relax.off_local_start = 0.1, but no network has off-local weights: relax.followers = ['eLCN']"],
        ),
        ("[run]\nseeds = [1, 1]", ["run.seeds", "different numbers"]),
        ("[data]\nname = 'cifar'", ["data.name = 'cifar'", "did you mean 'cifar10'?"]),
        ("cnn = 3", ["cnn = 3"]),
        ("[cnn", ["is not TOML"]),
        ("[cnn]\nepochs = 0\n[rn]\n", ["cnn.epochs = 0", "'rn'"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        _load(tmp_path, text)
    message = str(raised.value)
    assert all(part in message for part in [*parts, "study.toml"]), message


@pytest.mark.parametrize(
    ("times", "says"),
    [("[1.5]", "relax.times.0 = 1.5: input should be a valid integer"), ("'papr'", "relax.times = 'papr': input should be 'paper'")],
)
def test_of_two_things_that_could_stand_there_the_meant_one_is_explained(tmp_path: Path, times: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _load(tmp_path, f"[relax]\ntimes = {times}")
    assert str(raised.value) == f"{tmp_path / 'study.toml'}: {says}"


@pytest.mark.parametrize("override", ["epochs=5", "relax.epochs", "=3", "relax.=3"])
def test_overrides_have_a_form(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"--set takes section\.key=value such as relax\.epochs=5, got"):
        _load(tmp_path, "", override)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted((EXAMPLES / "studies").glob("*.toml")), ids=lambda path: str(path.stem))
def test_the_examples_are_right(path: Path) -> None:
    names = [task.name for task in plan.tasks(load(path))]
    assert len(names) == len(set(names)) > 3


def test_tasks_come_after_what_they_need() -> None:
    config = Config.model_validate({"relax": {"times": (2, 5), "followers": ("eLCN", "eFCN"), "controls": ("CNN", "FCN")}, "run": {"seeds": (1, 2)}})
    tasks = plan.tasks(config)
    assert [task.name for task in tasks if task.seed == 1] == [
        "seed-1/CNN",
        "seed-1/FCN",
        *(f"seed-1/t00{time}/{arm}" for time in (2, 5) for arm in ("eLCN", "eFCN", "CNN")),
        "seed-1/t005/paths",
    ]
    assert plan.needs(tasks[0], config) == plan.needs(tasks[1], config) == []
    assert plan.needs(tasks[2], config) == ["seed-1/CNN/snapshots/epoch-002.safetensors"]
    assert [task.name for task in plan.joined(tasks[8], config)] == [f"seed-1/t005/{arm}" for arm in ("eLCN", "eFCN", "CNN")]
    assert plan.joined(tasks[7], config) == []
