"""One training step of each named layer, ours and the convolution it comes from: the cases of `efcn bench`."""

from typing import Any

import pytest
import torch

from efcn_kernels.bench.cases import CASES, Case
from efcn_kernels.bench.competitors import Convolution
from efcn_kernels.bench.run import check
from efcn_kernels.bench.step import Ours

BATCH = 250
# a convolution is no yardstick for a layer with weights everywhere
LOCAL = [case for case in CASES if case.support == "local"]


@pytest.mark.parametrize("case", LOCAL, ids=lambda case: case.name)
def test_ours(benchmark: Any, case: Case) -> None:
    ours = Ours.make(case, BATCH, torch.float32)
    check("conv", Convolution(ours), ours)
    benchmark.extra_info["flop"] = 3 * ours.work.flop
    benchmark(ours.step())


@pytest.mark.parametrize("variant", ["NCHW", "channels_last"])
@pytest.mark.parametrize("case", LOCAL, ids=lambda case: case.name)
def test_convolution(benchmark: Any, case: Case, variant: str) -> None:
    ours = Ours.make(case, BATCH, torch.float32)
    competitor = Convolution(ours)
    check("conv", competitor, ours)
    benchmark(competitor.variants[variant])
