"""An eFCN to the CNN nearest to it: the projection onto the CNN subspace."""

from __future__ import annotations

from torch import nn

from efcn_kernels.mapping.copies import TORCHS_OWN, with_modules
from efcn_kernels.nn import LocallyConnected


def efcn_to_cnn(model: nn.Module) -> nn.Module:
    """A copy of `model` in which every locally connected layer is its nearest convolution: the mean over sites of each tap.

    Off-local weights are dropped. Pooling and normalisation are torch's own modules again: the copy needs nothing of this package. On an
    untrained mapping this gives the CNN back, but for taps that only ever meet zero padding: no weight was stored for those, so they become zero.
    """
    if isinstance(model, LocallyConnected):
        return model.to_conv()
    convs: dict[int, nn.Module] = {id(layer): layer.to_conv() for layer in model.modules() if isinstance(layer, LocallyConnected)}
    return with_modules(model, convs, kinds=TORCHS_OWN)
