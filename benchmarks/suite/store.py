"""The file of a suite: its parts, each with what was measured, what failed and what was not run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from efcn_kernels.bench.result import prepare, save_json

SCHEMA = 1
FILE = "gpu-suite.json"
# between two writings of the file, so that what a time limit cuts off is little and writing takes little of it
_UNSAVED_S = 3.0

Items = Mapping[str, Callable[[], dict[str, Any]]]


class Store:
    """What a folder holds. Parts that were measured by other code, on another device or in another way do not count and are replaced.

    identity: what has to be alike for a part to be taken over. Raises OSError where the folder cannot be written, ValueError for a file
    that is none of a suite.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = folder / FILE, dict(identity)
        prepare(self.path)
        self.parts: dict[str, dict[str, Any]] = read(self.path)["parts"] if self.path.exists() else {}

    def part(self, name: str) -> dict[str, Any]:
        """The part so far: identity, items, failed, not_run; empty where nothing counts."""
        found = self.parts.get(name)
        if found is None or found["identity"] != self.identity:
            found = {"identity": self.identity, "provenance": {}, "seconds": 0.0, "items": {}, "failed": {}, "not_run": []}
            self.parts[name] = found
        return found

    def items(self, name: str) -> dict[str, Any]:
        """What was measured of a part."""
        measured: dict[str, Any] = self.part(name)["items"]
        return measured

    def run(
        self,
        name: str,
        items: Items,
        limit_s: float,
        provenance: Callable[[], Mapping[str, Any]] = dict,
        alive: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Measure what is not there yet, in order, and begin nothing after `limit_s`; whether nothing failed.

        An item that raises is noted as failed, with its reason, and tried again in the next run. Nothing more is begun once
        `alive` says that the device no longer answers.
        """
        part = self.part(name)
        if not (missing := [item for item in items if item not in part["items"]]):
            return True
        started = saved = perf_counter()
        before = part["seconds"]
        part |= {"provenance": {**provenance()}, "failed": {}, "not_run": list(missing)}
        self.save()
        for item in missing:
            if perf_counter() - started >= limit_s or not alive():
                break
            try:
                part["items"][item] = items[item]()
            except Exception as error:
                # whatever a kernel or a tool raises: the other items are still worth measuring
                part["failed"][item] = f"{type(error).__name__}: {error}"
            part["not_run"].remove(item)
            part["seconds"] = before + perf_counter() - started
            if perf_counter() - saved > _UNSAVED_S:
                self.save()
                saved = perf_counter()
        self.save()
        return not part["failed"]

    def save(self) -> None:
        """Write the file at once or not at all."""
        save_json({"schema": SCHEMA, "parts": self.parts}, self.path)


def read(path: Path) -> dict[str, Any]:
    """What a suite wrote. Raises ValueError, naming the path, for a file that is none of this version."""
    try:
        written = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; give a file that benchmarks/gpu_suite.sh wrote") from error
    schema = written.get("schema") if isinstance(written, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} has schema {schema!r}, this version reads {SCHEMA}: remove it and run the suite again")
    loaded: dict[str, Any] = written
    return loaded
