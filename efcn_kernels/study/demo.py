"""The demonstration: train a small CNN, relax it into its eFCN at three times, and go on with each network on equal terms."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from efcn_kernels.analysis import central_unit, exactness, incoming_weights, off_local_share, sizes
from efcn_kernels.study import tables
from efcn_kernels.study.arms import ARMS, CNN, Arm, build
from efcn_kernels.study.data.sets import ImageData, load
from efcn_kernels.study.figures import draw
from efcn_kernels.study.models import small_cnn
from efcn_kernels.study.progress import busy, epoch_bar
from efcn_kernels.study.results import Results, prepare_folder
from efcn_kernels.study.train.epoch import EpochRecord, run_epoch


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. Its message is one line that says what is finished; a command line leaves with code 130."""


@dataclass(frozen=True)
class DemoConfig:
    """What a demonstration did; times are counted in epochs since the CNN's initialisation."""

    data: str
    train_images: int
    test_images: int
    relax_epochs: tuple[int, ...]
    epochs: int
    learning_rate: float
    relaxed_learning_rate: float
    batch_size: int
    seed: int
    quick: bool


def run_demo(
    out_dir: str | os.PathLike[str],
    *,
    data: str = "fashion-mnist-small",
    data_dir: str | os.PathLike[str] | None = None,
    epochs: int = 10,
    relax_epochs: Sequence[int] = (2, 6, 16),
    learning_rate: float = 0.1,
    relaxed_learning_rate: float = 0.05,
    batch_size: int = 250,
    seed: int = 0,
    console: Console | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Run the demonstration and return what it wrote to `out_dir`/results.json.

    A small CNN is trained by plain SGD with `learning_rate` and copied at each of `relax_epochs`. From each copy four networks go on for `epochs`
    epochs, the CNN itself, its eLCN, the halo-1 network and the full eFCN: same batches, same `relaxed_learning_rate`. The protocol is that of
    d'Ascoli et al. 2019, except for the second rate: they kept 0.1, with which this eFCN's loss leaps up in its first epoch. So that the smaller
    rate favours nobody unseen, the first CNN is never stopped and shows what the CNN does at its own rate.

    All of it takes about three minutes on two cores, most of them for the full eFCN. `quick` shortens everything for a continuous-integration
    run: 1,000 images, and its own `epochs`, `relax_epochs` and `batch_size`.

    Writes results.json (after every stage), cnn_epoch_*.pt, heatmaps.npz and four PNG figures. Raises OutputError before anything else if
    `out_dir` cannot be written, DataError if the images are not there, ValueError for impossible settings, Interrupted on Ctrl-C.
    """
    if quick:
        epochs, relax_epochs, batch_size = 2, (1, 2, 3), min(batch_size, 100)
    times = tuple(relax_epochs)
    ascending = bool(times) and list(times) == sorted(set(times)) and times[0] >= 0
    if epochs < 1 or not ascending or batch_size < 1 or not min(learning_rate, relaxed_learning_rate) > 0:
        raise ValueError(
            f"epochs={epochs}, relax_epochs={times}, batch_size={batch_size}, learning_rate={learning_rate}, relaxed_learning_rate="
            f"{relaxed_learning_rate}: expected one epoch or more, ascending relax times, and a positive batch size and learning rates"
        )
    folder = prepare_folder(out_dir)
    images = load(data, data_dir, console=console)
    if quick:
        images = images.first(1_000, 400)
    config = DemoConfig(
        data=images.name,
        train_images=len(images.train_labels),
        test_images=len(images.test_labels),
        relax_epochs=times,
        epochs=epochs,
        learning_rate=learning_rate,
        relaxed_learning_rate=relaxed_learning_rate,
        batch_size=batch_size,
        seed=seed,
        quick=quick,
    )
    results = Results(
        folder / "results.json",
        config=asdict(config),
        cnn={},
        exactness=[],
        runs=[],
        heatmaps={},
        figures=[],
    )
    try:
        _Demo(config, images, folder, results, console).run()
    except KeyboardInterrupt:
        results.close("interrupted")
        done = results.content["stages"]
        kept = f"{len(done)} finished stages, the last of them {done[-1]!r}, are kept in {results.path}" if done else "no stage was finished"
        raise Interrupted(f"interrupted: {kept}") from None
    except BaseException:
        results.close("failed")
        raise
    return results.content


class _Demo:
    """The stages of one run; each ends by writing what it found."""

    def __init__(self, config: DemoConfig, images: ImageData, folder: Path, results: Results, console: Console | None) -> None:
        self.config, self.images, self.folder, self.results, self.console = config, images, folder, results, console
        self.train = (images.normalised("train"), images.train_labels)
        self.test = (images.normalised("test"), images.test_labels)
        self.example = self.train[0][: config.batch_size]
        self.maps: dict[str, Any] = {}

    def run(self) -> None:
        """All stages in order."""
        times = self.config.relax_epochs
        middle = times[len(times) // 2]
        snapshots = self._train_cnn()
        for time in times:
            self._check(time, snapshots[time])
        tables.show_exactness(self.console, self.results.content)
        for time in times:
            for arm in ARMS:
                self._continue(arm, time, snapshots[time], keep_map=time == middle)
        with busy(self.console, "drawing the figures"):
            self.results.content["figures"] = draw(self.results.content, self.folder)
        self.results.finish_stage("figures")
        self.results.close("finished")
        tables.show_runs(self.console, self.results.content)

    def _model(self) -> nn.Sequential:
        return small_cnn(self.images.channels, self.images.size, len(self.images.classes))

    def _train_cnn(self) -> dict[int, nn.Module]:
        """Train the CNN at its own rate to the end of the last run, and copy it at each relax time."""
        config = self.config
        torch.manual_seed(config.seed)
        cnn = self._model()
        snapshots: dict[int, nn.Module] = {}

        def keep(epoch: int) -> None:
            if epoch in config.relax_epochs:
                torch.save(cnn.state_dict(), self.folder / f"cnn_epoch_{epoch:03d}.pt")
                snapshots[epoch] = self._model()
                snapshots[epoch].load_state_dict(cnn.state_dict())

        keep(0)
        records = self._epochs("CNN", cnn, config.learning_rate, 0, config.relax_epochs[-1] + config.epochs, keep)
        self.results.content["cnn"] = {"epochs": [record.as_dict() for record in records]}
        self.results.finish_stage("CNN")
        return snapshots

    def _check(self, time: int, cnn: nn.Module) -> None:
        """Measure how exactly each mapped network computes what the CNN of relax time `time` does."""
        for arm in ARMS:
            if arm is not CNN:
                with busy(self.console, f"{arm.name} at epoch {time}: is it still the CNN?"):
                    network = build(arm, cnn, self.example)
                    found = exactness(network, cnn, *self.test, self.config.batch_size)
                self.results.content["exactness"].append({"name": arm.name, "relax_epoch": time, **found})
        self.results.finish_stage(f"exactness at epoch {time}")

    def _continue(self, arm: Arm, time: int, snapshot: nn.Module, *, keep_map: bool) -> None:
        """Go on from relax time `time` as `arm`."""
        cnn = self._model()
        cnn.load_state_dict(snapshot.state_dict())
        network = build(arm, cnn, self.example)
        size = sizes(network, cnn, self.example)
        rate = self.config.relaxed_learning_rate
        records = self._epochs(f"{arm.name} from epoch {time}", network, rate, time, time + self.config.epochs)
        self.results.content["runs"].append(
            {
                "name": arm.name,
                "relax_epoch": time,
                **size,
                "seconds_per_epoch": median(record.seconds for record in records),
                "off_local_share": 0.0 if arm is CNN else off_local_share(network)["whole"],
                "epochs": [record.as_dict() for record in records],
            }
        )
        if keep_map:
            unit = central_unit(snapshot, self.example)
            self.maps[arm.name] = incoming_weights(network, self.example, unit)
            self.results.content["heatmaps"] = {"file": "heatmaps.npz", "relax_epoch": time, "unit": asdict(unit)}
            self._save_maps()
        self.results.finish_stage(f"{arm.name} from epoch {time}")

    def _epochs(
        self, title: str, network: nn.Module, rate: float, start: int, stop: int, after: Callable[[int], None] | None = None
    ) -> list[EpochRecord]:
        """Train epochs start + 1 .. stop with learning rate `rate` behind a progress bar."""
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)
        records = []
        with epoch_bar(self.console, title, (stop - start) * len(self.train[1])) as advance:
            for epoch in range(start + 1, stop + 1):
                records.append(
                    run_epoch(
                        network,
                        self.train,
                        self.test,
                        epoch=epoch,
                        optimizer=optimizer,
                        batch_size=self.config.batch_size,
                        progress=advance,
                    )
                )
                if after is not None:
                    after(epoch)
        return records

    def _save_maps(self) -> None:
        np.savez(self.folder / "heatmaps.npz", **self.maps)
