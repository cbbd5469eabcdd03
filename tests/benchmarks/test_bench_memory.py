"""The script that measures memory: what it says is needed, and a run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not reset a process's highest memory")
def test_a_run_and_its_json(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    command = [sys.executable, "benchmarks/memory.py", "digits", "--batch", "3", "--rounds", "1", "--momentum", "0.5", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert {"date", "machine", "commit", "versions", "settings"} <= set(written)
    found = written["subjects"]["digits"]
    arms = ["torch.optim.SGD", "EFCNSGD", "EFCNSGD fused"]
    assert list(found["step"]) == list(found["memory"]) == arms
    # 1 -> 32 channels, 5x5 with padding at 28x28: 134 live taps along each axis, a bias at each site, float32
    blocks, bias = 134 * 134 * 32 * 4, 28 * 28 * 32 * 4
    images, maps = 3 * 28 * 28 * 4, 3 * 28 * 28 * 32 * 4
    for arm, gradients in zip(arms, (blocks + bias, blocks + bias, bias)):
        memory = found["memory"][arm]
        assert memory["needed"] == {
            "weights": blocks + bias,
            "gradients": gradients,
            "momenta": blocks + bias,
            "activations": images + maps,
            "activation_gradients": images + maps,
        }
        assert memory["peak_bytes"] > blocks
        assert memory["returning"]["peak_bytes"] > blocks
