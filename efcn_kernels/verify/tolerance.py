"""How exact is exact enough: one rule, used by the tests, by `efcn verify` and by the benchmarks.

A result may be off by twice what plain torch (a dense matmul in the same dtype) is off, both measured against float64. On
top of that comes a floor, because a plain result is sometimes exact by luck: one rounding of the result, and `SLACK`
roundings of the sum of absolute products in the dtype that kernels add up in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from efcn_kernels.ops.dtypes import accumulator

PLAIN_FACTOR = 2.0
# a sum of K random products added one by one is off by about 0.2 roundings of the sum of their absolute values, and by
# five times that in the worst of some million sums; leaving out one product of 10,000 is off by 800 float32 roundings
SLACK = 4.0
_PIECE = 1 << 26


class Product(NamedTuple):
    """What a matrix product should be.

    exact: float64, of the shape of the product. absolute: the same with absolute values everywhere, float64.
    plain_error: by how much torch's own product in the working dtype is off at most.
    """

    exact: Tensor
    absolute: Tensor
    plain_error: float

    def at(self, places: Tensor) -> Product:
        """The entries at `places` of the flattened product."""
        return Product(self.exact.flatten()[places], self.absolute.flatten()[places], self.plain_error)

    def ratio(self, got: Tensor) -> float:
        """The largest error of `got` as a share of what is allowed: at most 1 is right, infinite for NaN or another shape."""
        return ratio(got, self.exact, self.absolute, self.plain_error)


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Product:
    """a (M, K) @ b (K, N) + bias (N,), all of one dtype: exactly, and as plain torch computes it."""
    plain = a @ b if bias is None else a @ b + bias
    wide_bias = 0.0 if bias is None else bias.double()
    exact = a.double() @ b.double() + wide_bias
    absolute = a.double().abs() @ b.double().abs() + (0.0 if bias is None else bias.double().abs())
    return Product(exact, absolute, largest(plain.double() - exact))


def floor(exact: Tensor, absolute: Tensor, dtype: torch.dtype, operands: float = 0.0) -> Tensor:
    """The error that any correct computation in `dtype` may have, float64, of the shape of `exact`.

    operands: by how much each product is off, relative, where matrix units cut float32 operands to fewer bits.
    """
    info = torch.finfo(dtype)
    return info.eps * exact.abs() + (SLACK * torch.finfo(accumulator(dtype)).eps + operands) * absolute + info.tiny * info.eps


def rounded(magnitudes: Tensor, dtype: torch.dtype, times: float = 1.0) -> Tensor:
    """What to add to `absolute` where numbers of these magnitudes were rounded to `dtype` on the way, so many times."""
    return magnitudes * (times * torch.finfo(dtype).eps / (SLACK * torch.finfo(accumulator(dtype)).eps))


def ratio(got: Tensor, exact: Tensor, absolute: Tensor, plain_error: float = 0.0, operands: float = 0.0) -> float:
    """The largest error of `got` as a share of what is allowed: at most 1 is right, infinite for NaN or another shape."""
    if got.shape != exact.shape:
        return float("inf")
    allowed = PLAIN_FACTOR * plain_error + floor(exact, absolute, got.dtype, operands)
    share = (got.double() - exact).abs() / allowed
    return float("inf") if bool(share.isnan().any()) else largest(share)


def disagreement(a: Tensor, b: Tensor, absolute: Tensor, operands: float = 0.0) -> float:
    """How far two results of one dtype are apart, as a share of what two correct ones may be.

    absolute: as in `Product`. operands: as in `floor`.
    """
    if a.shape != b.shape:
        return float("inf")
    # piece by piece: float64 copies of a gradient of billions of weights are larger than what it is the gradient of
    pieces = (t.reshape(-1).split(_PIECE) for t in (a, b, absolute))
    return max((ratio(one, other.double(), 2 * scale.double(), operands=operands) for one, other, scale in zip(*pieces)), default=0.0)


def largest(x: Tensor) -> float:
    """max |x|, 0 for an empty tensor."""
    return float(x.abs().max()) if x.numel() else 0.0
