"""The index arrays of a layout as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Index(NamedTuple):
    """A layout's int32 index arrays on one device.

    crow (P+1,), col (nnzb,): CSR over output sites. tcrow (Q+1,), tcol (nnzb,), tblock (nnzb,): for each input site
    its output sites and block numbers. mask (nnzb, Co, Ci) bool, or None where every block is whole.
    """

    crow: Tensor
    col: Tensor
    tcrow: Tensor
    tcol: Tensor
    tblock: Tensor
    mask: Tensor | None

    def masked(self, weights: Tensor) -> Tensor:
        """`weights` (nnzb, Co, Ci) with zeros where the mask leaves them out; `weights` itself where every block is whole."""
        return weights if self.mask is None else weights * self.mask


def read_only(index: Tensor) -> npt.NDArray[np.int32]:
    """The NumPy view of an index array, locked: a layout never changes."""
    array: npt.NDArray[np.int32] = index.numpy()
    array.flags.writeable = False
    return array


def fixed(index: Tensor) -> Tensor:
    """The tensor as a constant for torch.compile and for every mode of autograd."""
    # torch.compile takes the sizes of parameters as constants; of plain tensors it may tie them to a batch of equal size.
    # a layout first used under inference mode must serve training later, so its arrays are never inference tensors
    with torch.inference_mode(False):
        return torch.nn.Parameter(index.clone() if index.is_inference() else index, requires_grad=False)
