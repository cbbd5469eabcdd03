"""Who runs the tasks: processes of this machine, or of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from efcn_kernels.study.config import Config
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.worker import serve
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train.stopping import ignoring_interrupts

_KEEP_MEMORY = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
# a task, and what it raised (None: nothing)
Outcome = tuple[Task, BaseException | None]


class WorkerDied(RuntimeError):
    """A process ended in the middle of a task."""


class Crew(Protocol):
    """A bounded number of hands."""

    @property
    def free(self) -> int:
        """How many tasks could be started now."""

    def start(self, task: Task) -> None:
        """Begin a task."""

    def outcomes(self, seconds: float) -> Iterable[Outcome]:
        """The tasks that have ended, waited for at most so long."""

    def stop(self) -> None:
        """Ask those at work to save and leave."""

    def close(self) -> None:
        """Let everybody go."""


@dataclass
class _Hand:
    process: BaseProcess
    line: Any
    task: Task | None = None


class Processes:
    """At most `config.run.processes` processes of this machine, each started when it is first needed."""

    def __init__(self, workspace: Workspace, config: Config) -> None:
        self._arguments = (workspace.root, config, threads_of(config))
        self._size = config.run.processes
        self._hands: list[_Hand] = []

    @property
    def free(self) -> int:
        return self._size - sum(hand.task is not None for hand in self._hands)

    def start(self, task: Task) -> None:
        hand = next((hand for hand in self._hands if hand.task is None), None) or self._hire()
        hand.task = task
        hand.line.send(task)

    def outcomes(self, seconds: float) -> list[Outcome]:
        waiting = [hand for hand in self._hands if hand.task is not None]
        heard = connection.wait([hand.line for hand in waiting], seconds)
        found: list[Outcome] = []
        for hand in waiting:
            if hand.line in heard and hand.task is not None:
                task, hand.task = hand.task, None
                try:
                    found.append((task, hand.line.recv()))
                except (EOFError, OSError):
                    self._hands.remove(hand)
                    hand.process.join()
                    found.append((task, WorkerDied(_last_words(hand.process.exitcode))))
        return found

    def stop(self) -> None:
        for hand in self._hands:
            if hand.task is not None:
                hand.process.terminate()

    def close(self) -> None:
        for hand in self._hands:
            hand.line.close()
        for hand in self._hands:
            hand.process.join()

    def _hire(self) -> _Hand:
        # not forked: torch's threads do not survive that
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, *self._arguments), daemon=True)
        # glibc gives activations back to the system after each step, and the page faults of the next take a sixth of an eLCN's step (Zen 4)
        os.environ.setdefault("GLIBC_TUNABLES", _KEEP_MEMORY)
        # until it listens itself a Ctrl-C is not meant for it
        with ignoring_interrupts():
            process.start()
        theirs.close()
        self._hands.append(_Hand(process, ours))
        return self._hands[-1]


def threads_of(config: Config) -> int:
    """Threads of each process: as configured, else the machine's cores shared out."""
    return config.run.threads or max(1, len(os.sched_getaffinity(0)) // config.run.processes)


def _last_words(code: int | None) -> str:
    why = f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "") if code is not None and code < 0 else f"left with code {code}"
    return f"its process {why}; what it had saved is kept"
