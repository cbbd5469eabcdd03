"""Ctrl-C and a cluster's SIGTERM: finish the batch, save, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The user or the system wants an end; its message is one line that says what is kept."""


class Stop:
    """Whether an end is wanted. A second Ctrl-C does not wait: what was saved last is kept."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self, number: int, _: Any) -> None:
        if self.wanted and number == signal.SIGINT:
            raise Interrupted("interrupted twice: what was saved last is kept")
        self.wanted = True


@contextmanager
def stopping(heard: bool = True) -> Iterator[Stop]:
    """Signals set the flag instead of breaking off. heard: False: they are ignored, for somebody else decides."""
    stop = Stop()
    handler = stop if heard else signal.SIG_IGN
    with _handled(handler, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ctrl-C is ignored, by processes started in the meantime too."""
    with _handled(signal.SIG_IGN, signal.SIGINT):
        yield


@contextmanager
def _handled(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    # signals reach the main thread alone, and only there may they be caught
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
