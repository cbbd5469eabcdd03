"""Which convolutions have a locally connected layer with exactly their function."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from efcn_kernels.nn.base import Conv

KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAZY = nn.modules.lazy.LazyModuleMixin


def convolutions(model: nn.Module) -> dict[str, Conv]:
    """Every convolution by name (shared ones under each of theirs); ValueError for those that cannot be mapped exactly."""
    problems: list[str] = []
    owners: dict[nn.Parameter, nn.Module] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owner = owners.setdefault(parameter, module)
            if owner is not module and (isinstance(owner, Conv) or isinstance(module, Conv)):
                problems.append(f"{name!r} shares a parameter with another module, which a mapping would untie")
    found: dict[str, Conv] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, Conv):
            continue
        found[name] = module
        kind = next((k for k in KINDS if isinstance(module, k)), None)
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
