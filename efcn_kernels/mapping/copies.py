"""Copies of networks in which some modules are others: one mechanism for all that a mapping replaces."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn

from efcn_kernels import nn as efcn_nn
from efcn_kernels.mapping.equivalence import shared_weights

_KINDS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.MaxPool2d, efcn_nn.MaxPool2d),
    (nn.AvgPool2d, efcn_nn.AvgPool2d),
    (nn.AdaptiveAvgPool2d, efcn_nn.AdaptiveAvgPool2d),
    (nn.AdaptiveMaxPool2d, efcn_nn.AdaptiveMaxPool2d),
    (nn.Upsample, efcn_nn.Upsample),
    (nn.BatchNorm1d, efcn_nn.BatchNorm1d),
    (nn.BatchNorm2d, efcn_nn.BatchNorm2d),
    (nn.BatchNorm3d, efcn_nn.BatchNorm3d),
)
BATCH_LAST = dict(_KINDS)
TORCHS_OWN = {ours: torchs for torchs, ours in _KINDS}


def with_modules(
    network: nn.Module,
    replaced: Mapping[int, nn.Module],
    kinds: Mapping[type[nn.Module], type[nn.Module]] | None = None,
    memo: Mapping[int, object] | None = None,
) -> nn.Module:
    """A deep copy of `network` with other modules in some places, wherever it holds them, in plain lists too.

    replaced: the new module by the id of the old one. kinds: modules of exactly these types become the others, which take the same
    arguments and state; those with a forward of their own are left alone. memo: what the copy is to share, by its id.
    """
    known: dict[int, object] = {**(memo or {}), **replaced}
    for module in network.modules():
        if kinds is not None and type(module) in kinds and "forward" not in vars(module) and id(module) not in known:
            # the copy is in the memo from here on, with all of its state and hooks
            copy.deepcopy(module, known).__class__ = kinds[type(module)]
    copied: nn.Module = copy.deepcopy(network, known)
    return copied


def batch_last_copy(network: nn.Module) -> nn.Module:
    """A copy, sharing the weights of locally connected layers, whose layers, pooling and normalisation read and hand out batch-last images."""
    laid = with_modules(network, {}, kinds=BATCH_LAST, memo=shared_weights(network))
    for layer in laid.modules():
        if isinstance(layer, efcn_nn.LocallyConnected):
            layer.batch_last = True
    return laid
