"""The metrics of a run, one JSON object per line and epoch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from efcn_kernels.study.run.storage import StorageError


class Journal:
    """A JSONL file that is flushed to the disk after each line.

    A checkpoint notes `size`; going on from it, `cut` removes what was written after it, so that no epoch appears twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, row: dict[str, Any]) -> None:
        """Add one line. Raises StorageError; what it then left of a line goes with the next `cut`."""
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}; what was written before is kept") from error

    def holds(self, size: int) -> bool:
        """Whether the first `size` bytes are there: a checkpoint that notes more belongs to another file."""
        return self.size >= size

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes."""
        if self.size > size:
            os.truncate(self.path, size)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; the last one may be under way."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
