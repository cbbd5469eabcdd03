"""Names of torch that are not public, in one place: what each is for, and what is done without it where a later torch has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_FOR_FUSED_SGD = ("_will_engine_execute_node", "_current_graph_task_id")
_FOR_FUSED_SGD_IN_AUTOGRAD = ("_get_current_graph_task_keep_graph",)


def why_not_fused() -> str | None:
    """Why weights cannot be stepped inside grad-weight with this torch, or None."""
    gone = [f"torch._C.{name}" for name in _FOR_FUSED_SGD if not hasattr(torch._C, name)]
    gone += [f"torch._C._autograd.{name}" for name in _FOR_FUSED_SGD_IN_AUTOGRAD if not hasattr(torch._C._autograd, name)]
    return f"torch {torch.__version__} has no {', '.join(gone)}" if gone else None


def will_execute(node: Any) -> bool:
    """Whether the backward pass that runs will visit this node of its graph. Raises RuntimeError for a leaf that autograd.grad was given."""
    return torch._C._will_engine_execute_node(node)


def in_backward() -> bool:
    """Whether a backward pass runs in this thread."""
    return torch._C._current_graph_task_id() != -1


def keeps_graph() -> bool:
    """Whether the backward pass that runs will leave its graph for another one."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


def transforming() -> bool:
    """Whether someone is to see the operators rather than their results: torch.compile, torch.func, a dispatch mode, a tracer."""
    return torch.compiler.is_compiling() or _functorch() or _modes() > 0 or _tracing() is not None


def tracing() -> bool:
    """Whether torch.jit.trace records what is called."""
    return _tracing() is not None


def functorch() -> bool:
    """Whether a transformation of torch.func is under way."""
    return _functorch()


# without them torch's own dispatcher still does what is right, by a longer way
_functorch: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_tracing: Callable[[], Any] = getattr(torch._C, "_get_tracing_state", lambda: None)
