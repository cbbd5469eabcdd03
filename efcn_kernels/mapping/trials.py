"""Trial runs: what a model does with its convolutions is found out by running copies of it, in evaluation and in training mode."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from efcn_kernels.mapping.equivalence import arguments, trying, verify_equivalence
from efcn_kernels.nn.base import Conv

_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten._convolution, torch.ops.aten.convolution_overrideable)


def input_sizes(model: nn.Module, convs: dict[str, Conv], example_input: Any) -> dict[Conv, tuple[int, ...]]:
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


def _note_call(name: str, sizes: set[tuple[int, ...]], resized: set[str], conv: Conv, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
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
        if getattr(func, "overloadpacket", None) in _CONVOLUTIONS and not isinstance(module, Conv):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def check_run(model: nn.Module, efcn: nn.Module, example_input: Any) -> None:
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


def bears_batch_last(model: nn.Module, laid: nn.Module, example_input: Any) -> bool:
    """Whether the model's own code gives the same result, and still trains, with `laid`, whose layers hand out batch-last tensors."""
    example = _several(example_input)
    try:
        errors = verify_equivalence(model, laid, example)
        if not _trains(model, example) or _trains(laid, example):
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
