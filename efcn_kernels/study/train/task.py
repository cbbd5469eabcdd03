"""One training of a study, from wherever it was left."""

from __future__ import annotations

import io
import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from efcn_kernels.mapping import carry_state, cnn_to_efcn
from efcn_kernels.nn.optim import EFCNSGD
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.plan import ANSWERS, CHECKPOINT, HEAT_MAPS, RESULT, Task
from efcn_kernels.study.run.storage import DamagedError, load_tensors, save_tensors, write_whole
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.start import default_fcn, fcn_of_norms, scatter
from efcn_kernels.study.train.epoch import SoFar, run_epoch
from efcn_kernels.study.train.journal import read
from efcn_kernels.study.train.measure import Measuring
from efcn_kernels.study.train.setting import Setting, seed_of
from efcn_kernels.study.train.state import pack, unpack
from efcn_kernels.study.train.stopping import Interrupted, Stop
from efcn_kernels.study.train.team import ALONE, Team

# a person looks at them
_PROGRESS_SECONDS = 0.5


class Training:
    """The training of `task`: its network, its optimizer and how far it has come.

    Its epochs are rows of metrics.jsonl, its state is in checkpoint.safetensors, and in checkpoint.previous.safetensors what was there
    before. Both say how long metrics.jsonl was, so whichever is read, epochs neither repeat nor go missing.
    """

    def __init__(self, task: Task, workspace: Workspace, setting: Setting, stop: Stop, team: Team = ALONE) -> None:
        self.task, self.workspace, self.setting, self.stop, self.team = task, workspace, setting, stop, team
        self.config = setting.config
        self.folder, self.journal = workspace.folder(task), workspace.journal(task)
        self.checkpoint = self.folder / CHECKPOINT
        self.previous = self.folder / "checkpoint.previous.safetensors"
        self.epoch, self.so_far = task.start, SoFar()
        self.snapshot: nn.Module | None = None
        self.network, self.optimizer = self._begin()
        self.measuring = Measuring(setting, task.arm, self.snapshot)
        self._saved = self._told = self._began = time.monotonic()

    def run(self) -> None:
        """Train to the end and write the result. Raises Interrupted, once the state is saved; StorageError."""
        if self.team.leads:
            self.workspace.claim(self.task)
        resumed = self._resume()
        if resumed:
            self._began -= (self.workspace.progress(self.task) or {}).get("seconds", 0.0) or sum(
                row.get("seconds", 0.0) for row in read(self.journal.path)
            )
        self.team.wait()
        if self.team.leads:
            self._tidy(resumed)
        trained = self.team.wrapped(self.network)
        try:
            for epoch in range(self.epoch + 1, self.task.end + 1):
                record = run_epoch(
                    trained,
                    self.setting.train,
                    self.setting.test,
                    epoch=epoch,
                    optimizer=self.optimizer,
                    batch_size=self.setting.batch_size,
                    progress=self._after_batch,
                    so_far=self.so_far,
                    team=self.team,
                )
                self.epoch, self.so_far = epoch, SoFar()
                if self.team.leads:
                    self._note({**record.as_dict(), "measured": self._measured()})
                    self._snapshot()
        except FloatingPointError as error:
            self._finish("diverged", {"reason": str(error)})
        else:
            self._save()
            self._finish("finished", {})
        self.team.wait()

    def _begin(self) -> tuple[nn.Module, EFCNSGD]:
        """The network and its optimizer as they are at the start of the task."""
        task, config, setting = self.task, self.config, self.setting
        torch.manual_seed(task.seed)
        cnn = setting.cnn()
        fused = self.team.size == 1
        if task.is_cnn:
            return cnn, setting.optimizer(cnn, config.cnn, fused)
        if not task.relaxes:
            network = default_fcn(cnn, setting.example)
            return network, setting.optimizer(network, config.relax, fused)
        before = setting.optimizer(cnn, config.cnn, fused=False)
        unpack(*load_tensors(self.workspace.file(plan.snapshot(task.seed, task.start))), cnn, before)
        torch.manual_seed(seed_of(task.seed, task.start))
        self.snapshot = cnn
        network = self._relaxed(cnn)
        # what was drawn for it is not the same for all, what is drawn from here on is
        torch.manual_seed(seed_of(task.seed, task.start))
        optimizer = setting.optimizer(network, config.relax, fused)
        if config.relax.optimizer_state == "carry" and task.arm != "FCN-norms":
            carry_state(before, cnn, optimizer, network)
        return network, optimizer

    def _relaxed(self, cnn: nn.Module) -> nn.Module:
        if self.task.arm == "CNN":
            copied = self.setting.cnn()
            copied.load_state_dict(cnn.state_dict())
            return copied
        network = cnn_to_efcn(cnn, self.setting.example, support=plan.support(self.task.arm))
        if self.task.arm == "FCN-norms":
            return fcn_of_norms(network)
        if self.config.relax.off_local_start:
            scatter(network, self.config.relax.off_local_start)
        return network

    def _resume(self) -> bool:
        """Go on from the newest checkpoint that is whole and fits the metrics; False: from the start."""
        for path in (self.checkpoint, self.previous):
            try:
                tensors, facts = load_tensors(path)
            except (FileNotFoundError, DamagedError):
                continue
            if self.journal.holds(facts["journal"]) and self._snapshots_until(facts["epoch"]):
                unpack(tensors, facts, self.network, self.optimizer)
                self.epoch, self.so_far, self._journal_size = facts["epoch"], SoFar(**facts["so_far"]), facts["journal"]
                return True
        self._journal_size = 0
        return False

    def _tidy(self, resumed: bool) -> None:
        """Drop what was written after the checkpoint; at a start note what the network is before its first step."""
        self.journal.cut(self._journal_size)
        # of an end that is none any more
        for name in (RESULT, HEAT_MAPS, ANSWERS):
            (self.folder / name).unlink(missing_ok=True)
        if not resumed:
            with torch.random.fork_rng():
                tested = self.measuring.test_metrics(self.network) or {}
                measured = self.measuring.at_the_start(self.network) | self._measured()
            self._note({"epoch": self.epoch, "test_loss": tested.get("loss"), "test_accuracy": tested.get("accuracy"), "measured": measured})
            self._snapshot()

    def _measured(self) -> dict[str, Any]:
        past, every = self.epoch - self.task.start, self.config.measure.every
        with torch.random.fork_rng():
            found = self.measuring.each_epoch(self.network)
            if past % every == 0 or self.epoch == self.task.end:
                found |= self.measuring.now_and_then(self.network)
        return found

    def _after_batch(self, _: int) -> None:
        if not self.team.leads:
            return
        now = time.monotonic()
        if now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self._tell()
        if self.stop.wanted:
            self._save()
            raise Interrupted(f"interrupted: {self.task.name} is kept in the middle of epoch {self.epoch + 1}")
        if now - self._saved >= self.config.run.checkpoint_seconds:
            self._save()

    def _save(self) -> None:
        if self.team.leads:
            tensors, facts = pack(self.network, self.optimizer)
            facts |= {"epoch": self.epoch, "so_far": asdict(self.so_far), "journal": self.journal.size}
            save_tensors(self.checkpoint, tensors, facts, self.previous)
            self._saved = time.monotonic()

    def _note(self, row: dict[str, Any]) -> None:
        self.journal.append(row)
        self._tell()

    def _tell(self) -> None:
        epochs = self.epoch - self.task.start + self.so_far.images / len(self.setting.train[1])
        progress = {"epochs": round(epochs, 6), "seconds": round(time.monotonic() - self._began, 3)}
        # nothing depends on it, so a full disk shall not end the training here
        with suppress(OSError):
            (self.folder / "progress.json").write_text(json.dumps(progress))

    def _snapshot(self) -> None:
        if self.task.is_cnn and self.epoch in self.config.times:
            path = self.workspace.file(plan.snapshot(self.task.seed, self.epoch))
            path.parent.mkdir(exist_ok=True)
            save_tensors(path, *pack(self.network, self.optimizer))

    def _snapshots_until(self, epoch: int) -> bool:
        """Whether those that a training up to `epoch` should have left are there; times may have been added to the configuration."""
        wanted = [plan.snapshot(self.task.seed, time) for time in self.config.times if time <= epoch] if self.task.is_cnn else []
        return all(self.workspace.file(name).exists() for name in wanted)

    def _finish(self, status: str, found: dict[str, Any]) -> None:
        if not self.team.leads:
            return
        if status == "finished":
            with torch.random.fork_rng():
                measured, maps = self.measuring.at_the_end(self.network)
                right = self.measuring.right(self.network)
            found |= {"measured": measured}
            np.savez_compressed(shown := io.BytesIO(), weights=maps)
            np.savez_compressed(answered := io.BytesIO(), right=right)
            for name, file in ((HEAT_MAPS, shown), (ANSWERS, answered)):
                write_whole(self.folder / name, file.getvalue())
        end = {"status": status, "start": self.task.start, "end": self.epoch, **found}
        write_whole(self.folder / RESULT, json.dumps(end, indent=1).encode())
