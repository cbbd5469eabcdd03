"""The command line: `python -m benchmarks.suite [OUT] [PART ...]`; benchmarks/gpu_suite.sh builds the package first.

Each part runs in a process of its own, within its share of the time, and is not repeated where its results are there already. What
did not fit into the time is listed in the report; the next run goes on with it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.suite import report
from benchmarks.suite.model import DATA_SHEETS
from benchmarks.suite.parts import PARTS, Setting, run_part
from benchmarks.suite.store import Store

# for the report, and for what a part that is stopped needs to end
_RESERVE_S = 10.0
_GRACE_S = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0, or 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="OUT | PART", help=f"a folder, then parts of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny layers: does it run?")
    parser.add_argument("--seconds", type=float, default=540.0, help="for everything (default: 540)")
    parser.add_argument("--expect", choices=DATA_SHEETS, help="print what the model expects of this chip, and measure nothing")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.expect:
        print(report.expectation(asked.expect))
        return 0
    out = Path(os.environ.get("OUT") or "bench-output/gpu-suite")
    if asked.names and asked.names[0] not in PARTS:
        out = Path(asked.names.pop(0))
    if unknown := sorted(set(asked.names) - set(PARTS)):
        parser.error(f"part must be one of {', '.join(PARTS)}, got {unknown[0]!r}")
    setting = Setting(torch.device(asked.device), asked.quick)
    if setting.device.type == "cuda" and not torch.cuda.is_available():
        print("gpu suite: there is no GPU here (torch.cuda.is_available() is false), nothing was run")
        return 0
    try:
        store = Store(out, setting.identity())
        if asked.alone:
            return int(not run_part(asked.names[0], setting, store, asked.seconds))
        return int(not run(asked.names or list(PARTS), out, setting, asked.seconds))
    except (OSError, ValueError) as error:
        parser.error(str(error))


def run(names: Sequence[str], out: Path, setting: Setting, limit_s: float) -> bool:
    """The parts of these names, one process after the other, then the report; whether all went well."""
    started, good = perf_counter(), True
    for place, name in enumerate(names, 1):
        left = limit_s - _RESERVE_S - (perf_counter() - started)
        # what earlier parts have left over is this one's
        spare = left - sum(PARTS[later].budget_s for later in names[place:])
        good &= _process(name, out, setting, min(left, max(spare, PARTS[name].budget_s)))
    print(report.write(out))
    return good


def _process(name: str, out: Path, setting: Setting, limit_s: float) -> bool:
    if limit_s <= _GRACE_S:
        print(f"{name}: not run, the time is over", flush=True)
        return True
    command = [sys.executable, "-m", "benchmarks.suite", str(out), name, "--alone", "--device", str(setting.device)]
    # what is begun within the limit has the grace to come to its end
    command += ["--seconds", str(limit_s - _GRACE_S), *(["--quick"] if setting.quick else [])]
    started = perf_counter()
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(limit_s)
        ended = "done" if code == 0 else f"something failed (code {code})"
    except subprocess.TimeoutExpired:
        code, ended = 0, "stopped at its time limit"
    finally:
        # with whatever it started
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    print(f"{name}: {ended}, {perf_counter() - started:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
