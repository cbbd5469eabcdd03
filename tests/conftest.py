"""What every test shares: seeds, the engines (backend x instruction set) and how many random examples are drawn."""

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from efcn_kernels.ops.backends import cpu
from tests.support.oracle import Engine

# Triton looks once, when kernels are made; programs that the tests start inherit it
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

# thorough: HYPOTHESIS_PROFILE=thorough pytest tests
_base = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.register_profile("fast", _base, derandomize=True)
settings.register_profile("thorough", _base)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# thousands of tiny problems: waking a second thread for each costs ten times what it computes; tests of threads set their own number
torch.set_num_threads(1)

ENGINES = ["reference", *(f"cpu-{isa}" for isa in cpu.isas())]


def pytest_make_parametrize_id(val: Any) -> str | None:
    """float32 and 64x3 in the names of tests, for torch.float32 and (64, 3); None: pytest's own way."""
    if isinstance(val, torch.dtype):
        return str(val).removeprefix("torch.")
    if isinstance(val, tuple) and val and all(type(each) is int for each in val):
        return "x".join(map(str, val))
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engines one after the other on each problem, whose exact results are then at hand (`oracle.expected`)."""
    problems: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        name = item.callspec.params.get("engine") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
        problems[item.nodeid if name is None else item.nodeid.replace(str(name), "", 1)].append(item)
    items[:] = [item for several in problems.values() for item in several]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each backend that is there, the C++ one under each instruction set that this machine runs."""
    name, _, isa = str(request.param).partition("-")
    if not isa:
        yield Engine(name, None)
        return
    with cpu.forced_isa(isa):
        yield Engine(name, isa)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20261)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN: an output element that nobody writes shows."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty_strided((2, 3), (1, 2)).isnan().all(), "torch no longer fills uninitialised memory in deterministic mode"
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def threads() -> Iterator[None]:
    """Whatever number of threads a test sets, the one before comes back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
