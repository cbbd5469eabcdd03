"""Whether two networks are the same function: their layers and outputs side by side."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.nn import LocallyConnected


def verify_equivalence(cnn: nn.Module, efcn: nn.Module, x: Any) -> dict[str, float]:
    """How far the two networks differ on `x`: max |cnn - efcn| / max |cnn|, in evaluation mode.

    One entry per replaced layer by its name (each network fed by its own layers before; layers that `x` does not reach are
    absent), and "output" for the end. Where one is NaN or infinite and the other is not, the difference is infinite.
    Both networks run on copies, from the same random state, which is left as it was.
    Raises ValueError where a replaced layer has no counterpart in `cnn`, or outputs cannot be compared.
    """
    names = [name for name, layer in efcn.named_modules() if isinstance(layer, LocallyConnected)]
    layers = dict(cnn.named_modules())
    if absent := [name for name in names if name not in layers]:
        raise ValueError(f"the first network has no layers named {absent}")
    wanted, got = _outputs(cnn, names, x), _outputs(efcn, names, x)
    if not wanted["output"]:
        raise ValueError("the networks return no floating-point tensors that could be compared")
    return {name: _worst(name, wanted[name], got[name]) for name in wanted if wanted[name] or got[name]}


def arguments(x: Any) -> tuple[Any, ...]:
    """`x` as positional arguments, tensors as copies: a network that works in place on its input does not change the caller's."""
    return tuple(part.clone() if isinstance(part, Tensor) else part for part in (x if isinstance(x, tuple) else (x,)))


def shared_weights(model: nn.Module) -> dict[int, object]:
    """The weights of locally connected layers as a memo of copy.deepcopy: they can be most of the memory and never change in a trial."""
    return {id(p): p for layer in model.modules() if isinstance(layer, LocallyConnected) for p in layer.parameters()}


@contextmanager
def trying(model: nn.Module, training: bool = False) -> Iterator[nn.Module]:
    """A copy of the model in that mode, to be run without a trace: no gradients, no changed buffers, no used random numbers."""
    trial: nn.Module = copy.deepcopy(model, shared_weights(model)).train(training)
    with torch.no_grad(), torch.random.fork_rng():
        yield trial


def _outputs(model: nn.Module, names: list[str], x: Any) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with trying(model) as trial:
        layers = dict(trial.named_modules())
        for name in names:
            # a clone: what follows may write to the output in place
            layers[name].register_forward_hook(lambda _m, _i, out, n=name: found[n].append(out.clone()))
        found["output"] = list(_tensors(trial(*arguments(x))))
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _tensors([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _worst(name: str, wanted: list[Tensor], got: list[Tensor]) -> float:
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (wanted, got)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name!r} gives tensors of shapes {shapes[0]} in the first network and {shapes[1]} in the second")
    return max((_difference(a, b) for a, b in zip(wanted, got)), default=0.0)


def _difference(a: Tensor, b: Tensor) -> float:
    if not a.numel():
        return 0.0
    same = (a == b) | (a.isnan() & b.isnan())
    worst = float((a - b).abs().double().masked_fill(same, 0.0).nan_to_num(nan=torch.inf, posinf=torch.inf).max())
    size = a.abs().double()
    scale = float(size.masked_fill(~size.isfinite(), 0.0).max())
    return worst / scale if scale > 0 else worst
