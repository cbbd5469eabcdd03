"""A few images: rows that are shared out to tasks in pieces shorter than a vector, reductions longer than a chunk."""

from __future__ import annotations

import pytest
import torch

from efcn_kernels import BlockLayout
from tests.support.judge import check
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine
from tests.support.problems import tensors


@pytest.mark.parametrize("block", [(32, 64), (32, 17), (64, 32), (17, 32), (16, 70), (33, 20), (32, 9), (32, 5)])
@pytest.mark.parametrize("sites", [(50, 1), (50, 2), (1, 50), (2, 50)])
def test_many_steps_and_short_pieces(engine: Engine, sites: tuple[int, int], block: tuple[int, int], threads: None, poisoned: None) -> None:
    layout = BlockLayout.full(*sites, block)
    for dtype, n, count in [
        (torch.float32, 1, 1),
        (torch.float32, 2, 2),
        (torch.float32, 7, 2),
        (torch.float32, 7, 1),
        (torch.float64, 7, 2),
        (torch.float64, 4, 1),
    ]:
        torch.set_num_threads(count)
        x, values, bias, gy = tensors(layout, n, dtype)
        check(engine, layout, ORDERS["batch-last"](x), values, bias, ORDERS["batch-last"](gy))
