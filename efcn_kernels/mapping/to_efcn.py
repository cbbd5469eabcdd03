"""A whole CNN to its eFCN: every convolution replaced, everything else kept."""

from __future__ import annotations

from typing import Any

from torch import nn

from efcn_kernels.mapping.converters import KINDS, convolutions
from efcn_kernels.mapping.copies import batch_last_copy, with_modules
from efcn_kernels.mapping.trials import bears_batch_last, check_run, input_sizes
from efcn_kernels.nn import LOCALLY_CONNECTED
from efcn_kernels.nn.base import Conv


def cnn_to_efcn(model: nn.Module, example_input: Any, support: Any = "local") -> nn.Module:
    """A copy of `model` in which every convolution is the locally connected layer with the same function.

    Args:
        model: any module; it is left as it is.
        example_input: a tensor (N, C, ...), or a tuple of positional arguments, of the size that the network will see.
            A trial run on a copy, in evaluation mode, finds each convolution's input size.
        support: "local", a halo radius in pixels, "full", a function of the layer's ConvGeometry, or a dict of these by
            layer name, with "local" for names that are absent.

    The copy keeps names, dtypes, devices, training modes and requires_grad. Off-local weights start at zero.
    Raises ValueError, naming the layers, for what cannot be mapped exactly: a convolution called at two sizes, never
    called, of a class with its own forward, with parametrised or tied weights or hooks, or called outside of a module.
    """
    if isinstance(model, KINDS):
        raise ValueError(f"{model} is a single layer: use LocallyConnected{len(model.kernel_size)}d.from_conv(conv, input_size)")
    convs = convolutions(model)
    sizes = input_sizes(model, convs, example_input)
    supports = _supports(support, convs)
    replaced: dict[int, nn.Module] = {}
    for name, conv in convs.items():
        if id(conv) not in replaced:
            kind = LOCALLY_CONNECTED[len(conv.kernel_size)]
            try:
                replaced[id(conv)] = kind.from_conv(conv, sizes[conv], supports.get(name, "local"))
            except (TypeError, ValueError) as error:
                raise ValueError(f"cannot map {name!r}: {error}") from error
    efcn = with_modules(model, replaced)
    check_run(model, efcn, example_input)
    # after the check: a model whose own code forbids batch-last tensors keeps the order that it is used to
    laid = batch_last_copy(efcn)
    return laid if bears_batch_last(model, laid, example_input) else efcn


def _supports(support: Any, convs: dict[str, Conv]) -> dict[str, Any]:
    if not isinstance(support, dict):
        return dict.fromkeys(convs, support)
    if unknown := sorted(set(support) - set(convs)):
        raise ValueError(f"support names no convolutions: {unknown}; the model has {sorted(convs)}")
    return support
