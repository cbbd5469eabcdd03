"""A whole CNN to its eFCN and back: every convolution replaced, everything else kept."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from efcn_kernels.mapping.equivalence import arguments, copied, trying, verify_equivalence
from efcn_kernels.nn import LOCALLY_CONNECTED
from efcn_kernels.nn.locally_connected import _Conv, _LocallyConnected
from efcn_kernels.nn.pooling import keep_batch_last

__all__ = ["cnn_to_efcn", "efcn_to_cnn", "verify_equivalence"]

_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten._convolution, torch.ops.aten.convolution_overrideable)
_LAZY = nn.modules.lazy.LazyModuleMixin


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
    if isinstance(model, _KINDS):
        raise ValueError(f"{model} is a single layer: use LocallyConnected{len(model.kernel_size)}d.from_conv(conv, input_size)")
    convs = _convolutions(model)
    sizes = _input_sizes(model, convs, example_input)
    supports = _supports(support, convs)
    replaced: dict[int, nn.Module] = {}
    for name, conv in convs.items():
        if id(conv) not in replaced:
            kind = LOCALLY_CONNECTED[len(conv.kernel_size)]
            try:
                replaced[id(conv)] = kind.from_conv(conv, sizes[conv], supports.get(name, "local"))
            except (TypeError, ValueError) as error:
                raise ValueError(f"cannot map {name!r}: {error}") from error
    # wherever the model holds a convolution, in a plain list too, its copy holds the layer
    efcn: nn.Module = copy.deepcopy(model, dict(replaced))
    _check_run(model, efcn, example_input)
    if _bears_batch_last(model, efcn, example_input):
        _put_batch_last(efcn)
    return efcn


def efcn_to_cnn(model: nn.Module) -> nn.Module:
    """A copy of `model` in which every locally connected layer is its nearest convolution: the mean over sites of each tap.

    Off-local weights are dropped. On an untrained embedding this gives the CNN back, but for taps that only ever meet zero
    padding: no weight was stored for those, so they become zero.
    """
    if isinstance(model, _LocallyConnected):
        return model.to_conv()
    layers = [layer for layer in model.modules() if isinstance(layer, _LocallyConnected)]
    cnn: nn.Module = copy.deepcopy(model, {id(layer): layer.to_conv() for layer in layers})
    return cnn


def _convolutions(model: nn.Module) -> dict[str, _Conv]:
    """Every convolution by name (shared ones under each of theirs); ValueError for those that cannot be mapped exactly."""
    problems: list[str] = []
    owners: dict[nn.Parameter, nn.Module] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owner = owners.setdefault(parameter, module)
            if owner is not module and (isinstance(owner, _Conv) or isinstance(module, _Conv)):
                problems.append(f"{name!r} shares a parameter with another module, which a mapping would untie")
    found: dict[str, _Conv] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, _Conv):
            continue
        found[name] = module
        kind = next((k for k in _KINDS if isinstance(module, k)), None)
        hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        if isinstance(module, _LAZY):
            problems.append(f"{name!r} is lazy: run the model once before mapping it")
        elif module.weight.is_complex():
            problems.append(f"{name!r} has {module.weight.dtype} weights; the layers here are real")
        elif parametrize.is_parametrized(module):
            problems.append(f"{name!r} is parametrised: remove its parametrisations first")
        elif hooks:
            problems.append(f"{name!r} has hooks (weight_norm and spectral_norm are some), which a mapping would lose: remove them first")
        elif kind is None or "forward" in vars(module) or _forwards(type(module)) != _forwards(kind):
            problems.append(f"{name!r} is a {type(module).__name__} with a forward of its own")
    if problems:
        raise ValueError("cannot map the model exactly: " + "; ".join(problems))
    if not found:
        raise ValueError(f"{type(model).__name__} has no convolution to map")
    return found


def _forwards(kind: type[nn.Module]) -> tuple[Any, Any]:
    return kind.forward, getattr(kind, "_conv_forward", None)


def _input_sizes(model: nn.Module, convs: dict[str, _Conv], example_input: Any) -> dict[_Conv, tuple[int, ...]]:
    """The spatial size that each convolution sees in trial runs."""
    seen: dict[str, set[tuple[int, ...]]] = {name: set() for name in convs}
    resized: set[str] = set()
    functional: set[str] = set()
    # heads that only run in training are met in the second run
    for training in (False, True):
        with trying(model, training) as trial:
            twins = dict(trial.named_modules(remove_duplicate=False))
            for name in convs:
                twins[name].register_forward_pre_hook(partial(_note_call, name, seen[name], resized), with_kwargs=True)
            try:
                with _FunctionalConvolutions(trial, functional):
                    trial(*arguments(example_input))
            except Exception as error:
                # what cannot train on this example, BatchNorm on one image for one, is told by what the first run has not met
                if not training:
                    raise ValueError(f"the model does not run on the example input: {error}") from error
    problems = [f"{n!r} is never called on the example input, so its input size is unknown" for n, s in seen.items() if not s]
    problems += [f"{n!r} is called at several sizes {sorted(s)}" for n, s in seen.items() if len(s) > 1]
    problems += [f"{n!r} is called with an output_size, which depends on the input" for n in sorted(resized)]
    problems += [f"a convolution is called as a function in the forward of {where!r}: make it a module" for where in sorted(functional)]
    if problems:
        raise ValueError("cannot map the model exactly: " + "; ".join(problems))
    return {convs[name]: size.pop() for name, size in seen.items()}


def _note_call(name: str, sizes: set[tuple[int, ...]], resized: set[str], conv: _Conv, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    image: Tensor = inputs[0] if inputs else named["input"]
    sizes.add(tuple(image.shape[-len(conv.kernel_size) :]))
    if len(inputs) > 1 or named.get("output_size") is not None:
        resized.add(name)


class _FunctionalConvolutions(TorchDispatchMode):
    """Notes the innermost module in which a convolution runs that is no convolution module."""

    def __init__(self, model: nn.Module, found: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found
        self._stack: list[tuple[str, nn.Module]] = [(type(model).__name__, model)]
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda m, _i, n=name: self._stack.append((n or type(m).__name__, m)))
            module.register_forward_hook(lambda _m, _i, _o: (self._stack.pop(), None)[1], always_call=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, module = self._stack[-1]
        if getattr(func, "overloadpacket", None) in _CONVOLUTIONS and not isinstance(module, _Conv):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def _supports(support: Any, convs: dict[str, _Conv]) -> dict[str, Any]:
    if not isinstance(support, dict):
        return dict.fromkeys(convs, support)
    if unknown := sorted(set(support) - set(convs)):
        raise ValueError(f"support names no convolutions: {unknown}; the model has {sorted(convs)}")
    return support


def _check_run(model: nn.Module, efcn: nn.Module, example_input: Any) -> None:
    """ValueError where the mapped network does not run, or is another function on the example input."""
    try:
        errors = verify_equivalence(model, efcn, example_input)
    except Exception as error:
        raise ValueError(f"the mapped network does not run on the example input, its own code forbids it: {error}") from error
    if errors["output"] > _tolerance(model):
        raise ValueError(f"the mapped network differs from the model on the example input, relative errors by layer: {errors}")


def _tolerance(model: nn.Module) -> float:
    # far above rounding through deep networks (ResNet-18 in float32: 1e-6), far below a lost tap
    low = any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters())
    return 0.3 if low else 1e-3


def _bears_batch_last(model: nn.Module, efcn: nn.Module, example_input: Any) -> bool:
    """Whether the model's own code gives the same result, and still trains, when its convolutions hand out batch-last tensors."""
    trial = copied(efcn)
    _put_batch_last(trial)
    example = _several(example_input)
    try:
        errors = verify_equivalence(model, trial, example)
        if not _trains(model, example) or _trains(trial, example):
            return errors["output"] <= _tolerance(model)
    except Exception:
        # its own code objects: .view(n, -1) on a batch-last tensor, for one
        pass
    return False


def _trains(model: nn.Module, example: Any) -> bool:
    with trying(model, training=True) as trial:
        try:
            trial(*arguments(example))
        except Exception:
            return False
    return True


def _several(example_input: Any) -> tuple[Any, ...]:
    """The example with at least two images: one alone lies batch-last in every order."""
    tensors = [x for x in arguments(example_input) if isinstance(x, Tensor) and x.dim() > 0]
    if not tensors or any(x.size(0) != 1 for x in tensors):
        return arguments(example_input)
    return tuple(torch.cat([x, x]) if isinstance(x, Tensor) and x.dim() > 0 else x for x in arguments(example_input))


def _put_batch_last(efcn: nn.Module) -> None:
    for layer in efcn.modules():
        if isinstance(layer, _LocallyConnected):
            layer.batch_last = True
    keep_batch_last(efcn)
