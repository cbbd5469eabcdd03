"""Cost against work: the fit, the sweeps' own bookkeeping, and one tiny run with its files."""

from __future__ import annotations

import json
from math import e
from pathlib import Path

import pytest
import torch

from benchmarks.sweep import Point, Sweep, Swept, main, power_law, sweeps
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.result import Timing
from efcn_kernels.pattern.layout import BlockLayout

TINY = tuple(Point(n, Case("", 2, 3, (4, 4), 3, padding=1), n, threads=1) for n in (2, 20))


def test_a_power_is_found_with_its_error() -> None:
    exact = power_law([1, 10, 100], [3 * value**1.5 for value in (1, 10, 100)])
    assert exact is not None
    assert exact == pytest.approx((1.5, 0, 3), abs=1e-7)
    # by hand: the logarithms (0, 0), (1, 0), (2, 2) have the slope 1 and the residuals 1/3, -2/3, 1/3
    bent = power_law([1, e, e**2], [1, 1, e**2])
    assert bent is not None
    assert (bent.exponent, bent.error) == pytest.approx((1, 3**-0.5))
    assert str(bent) == "1.00 ± 0.58"


def test_too_few_points_say_so() -> None:
    assert power_law([4], [7]) is None
    line = power_law([1, 2], [8, 2])
    assert line is not None
    assert line.exponent == pytest.approx(-2)
    assert line.error is None
    assert str(line) == "-2.00"


def test_the_largest_decade_alone() -> None:
    swept = Swept(Sweep("N", 1, tuple(Point(n, TINY[0].case, n) for n in (1, 10, 100))), {"forward": [Timing([ms]) for ms in (5.0, 5.0, 50.0)]})
    all_of_it, upper = swept.fit("forward"), swept.upper("forward")
    assert all_of_it is not None
    assert upper is not None
    assert (all_of_it.exponent, upper.exponent) == pytest.approx((0.5, 1))


def test_sweeps_change_what_they_say() -> None:
    by_name = {sweep.name: sweep for sweep in sweeps(6)}
    assert list(by_name) == ["nnz", "N", "threads", "sites", "channels"]
    assert [p.value for p in by_name["threads"].points] == [p.threads for p in by_name["threads"].points] == [1, 2, 4, 6]
    for name in ("nnz", "N", "sites", "channels"):
        points = by_name[name].points
        assert points[-1].value >= 99 * points[0].value
        for value, case, batch, _ in points:
            layout = BlockLayout.from_conv(case.geometry)
            known = {"nnz": layout.nnz, "N": batch, "sites": layout.out_sites, "channels": case.in_channels}
            assert known[name] == value
    assert [p.value for s in sweeps(1) for p in s.points if s.name == "threads"] == [1]


@pytest.mark.usefixtures("threads")
def test_a_run_and_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "made" / "sweep.json", tmp_path / "made" / "sweep.png"
    torch.set_num_threads(2)
    tiny = (Sweep("N", 1, TINY), Sweep("threads", -1, TINY[:1]))
    main(["--json", str(files[0]), "--figure", str(files[1]), "--rounds", "2", "--limit", "0.1"], lambda cores: tiny)
    assert torch.get_num_threads() == 2
    assert sorted(p.name for p in files[0].parent.iterdir()) == ["sweep.json", "sweep.png"]
    written = json.loads(files[0].read_text())
    assert {"date", "machine", "commit", "versions", "settings", "sweeps"} <= set(written)
    batches, threads = written["sweeps"]
    assert [point["value"] for point in batches["points"]] == [2, 20]
    assert {len(timing["rounds_ms"]) for point in batches["points"] for timing in point["passes"].values()} == {2}
    assert batches["fits"]["forward"]["all"]["standard_error"] is None
    assert threads["fits"]["forward"]["all"] is None
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert "forward" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--json", str(tmp_path)], lambda cores: pytest.fail("it began"))
    assert "is a folder" in capsys.readouterr().err
