"""Which CUDA kernels there are, and the problems that the emulator gives them."""

from __future__ import annotations

import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from tests.support.cuda.emulator import COMPILER, MATHS, Done, Emulated, Schedule, kernels, name_of
from tests.support.judge import check_pass, setting
from tests.support.memory_orders import ORDERS
from tests.support.oracle import expected
from tests.support.problems import OPS, tensors

KERNELS = [] if COMPILER is None else [(op, number) for op in OPS for number in range(len(kernels(op)))]
IDS = [f"{op}-{name_of(kernels(op)[number])}" for op, number in KERNELS]
# grad-weight has no members: its rows' sums have nothing in common
PRODUCTS = [key for key in KERNELS if key[0] != OPS[2]]
SCHEDULES = [Schedule(backwards, late) for backwards in (False, True) for late in (False, True)]


def rounded(x: Tensor) -> Tensor:
    """As the matrix units read TF32: 10 bits of mantissa. So no rounding is left to tolerate."""
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


class Case:
    """Tensors of one layer in one memory order, and what the three passes should be."""

    def __init__(self, layout: BlockLayout, n: int, math: str, order: str, bias: bool = True) -> None:
        x, values, offsets, gy = tensors(layout, n, MATHS[math], bias)
        if math == "tf32":
            x, values, gy = (rounded(t) for t in (x, values, gy))
        self.layout, self.math, self.values, self.bias = layout, math, values, offsets
        self.x, self.gy = ORDERS[order](x), ORDERS[order](gy)
        self.expected = expected(self.x, values, offsets, self.gy, layout)

    def call(self, op: str) -> Emulated:
        """The op on these tensors; its result lies in memory as its input does."""
        arguments = {OPS[0]: (self.x, self.values, self.bias), OPS[1]: (self.gy, self.values), OPS[2]: (self.gy, self.x)}[op]
        like = {OPS[0]: self.gy, OPS[1]: self.x, OPS[2]: self.values}[op]
        # results have a place for each of their numbers
        apart = 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True)) >= like.numel()
        out = torch.empty_strided(like.shape, like.stride() if apart else like.contiguous().stride(), dtype=like.dtype)
        return Emulated(op, self.layout, arguments, out)

    def check(self, op: str, call: Emulated, kernel: int | None = None, schedule: Schedule = SCHEDULES[1], members: int = 0) -> Done:
        """Run a kernel, by default the chosen one, and compare its result with the oracle; the message names kernel and schedule."""
        number = call.chosen(self.math) if kernel is None else kernel
        done = call.run(number, schedule, members)
        where = self.where(number, op, schedule, members)
        assert (done.written == 1).all(), f"not every number of the result is written once\n{where}"
        check_pass(op, done.result, self.expected[OPS.index(op)], self.layout, where)
        return done

    def where(self, kernel: int, op: str, schedule: Schedule, members: int = 0) -> str:
        """For messages."""
        note = f"kernel {name_of(kernels(op)[kernel])}, {schedule}, members {members or 'chosen'}"
        return setting("cuda, emulated", self.layout, {"x": self.x, "values": self.values, "bias": self.bias, "gy": self.gy}, note)
