"""SGD that can update block-sparse weights inside grad-weight, so that their gradient never exists as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from efcn_kernels.ops.fused import Claim
from efcn_kernels.ops.sgd import SGD, sgd_step


class EFCNSGD(torch.optim.Optimizer):
    """SGD with momentum and weight decay: the update of torch.optim.SGD, bit-equal with `fused` and without.

    Args:
        params: parameters or groups of them, as for any optimizer; those of other layers too.
        lr, momentum, weight_decay: at least 0.
        nesterov: Nesterov's momentum, which needs momentum > 0.
        fused: apply gradients of block-sparse weights (`weight`, `off_weight`) in the backward itself, at the learning rate
            of that moment; their `.grad` stays None. Also an option of a group. Bias and other layers wait for step().

    Fused, call step() after each backward; a second backward before it raises RuntimeError. Gradients that cannot be
    applied at once are not lost but become an ordinary `.grad` that step() applies: of weights used twice before a
    backward, with hooks, under autocast (which casts them), in torch.compile, or where `.grad` exists already. What reads
    or scales gradients between backward and step() is unavailable: GradScaler raises, but clipping and DDP cannot notice.
    Raises ValueError for what SGD cannot have.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        fused: bool = False,
    ) -> None:
        self._claims: dict[Tensor, Claim] = {}
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov, "fused": fused})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; ValueError for options that SGD cannot have."""
        _check_options(self.defaults | param_group)
        super().add_param_group(param_group)
        self._claim()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, also from torch.optim.SGD; `fused` stays as it is here. ValueError for options that are not known here."""
        groups = state_dict["param_groups"]
        for group in groups:
            if missing := {"lr", "momentum", "weight_decay", "nesterov"} - set(group):
                raise ValueError(f"the state has no {', '.join(sorted(missing))}: expected that of EFCNSGD or torch.optim.SGD")
            _check_options(group)
        if len(groups) == len(self.param_groups):
            # before it is loaded: a fused group claims its weights at once, from whichever optimizer has them
            groups = [{**group, "fused": here["fused"]} for group, here in zip(groups, self.param_groups)]
        super().load_state_dict({**state_dict, "param_groups": groups})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # a copy claims its own parameters
        self.__dict__.setdefault("_claims", {})
        self._claim()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply what lies in `.grad`; returns the closure's loss, or None.

        Raises RuntimeError where a part of a gradient was applied in the backward and another part lies in `.grad` (the
        weights are used outside of their layer), and where a later optimizer has taken the weights over.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for claim in self._claims.values():
            self._check(claim)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    rule, buffer = self.update_of(p)
                    sgd_step(p, buffer, p.grad, rule)
        for claim in self._claims.values():
            claim.applied = False
        return loss

    def fuses(self, weights: Tensor) -> bool:
        """Whether gradients of these weights are applied in the backward."""
        return bool(self._group(weights)["fused"])

    def update_of(self, weights: Tensor) -> tuple[SGD, Tensor | None]:
        """The step of these weights as of now and their momentum buffer, of their shape."""
        group = self._group(weights)
        rule = SGD(float(group["lr"]), float(group["momentum"]), float(group["weight_decay"]), bool(group["nesterov"]))
        if not rule.momentum:
            return rule, None
        state = self.state[weights]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(weights)
        buffer: Tensor = state["momentum_buffer"]
        if (buffer.shape, buffer.dtype, buffer.device) != (weights.shape, weights.dtype, weights.device):
            kinds = [f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in (buffer, weights)]
            raise RuntimeError(f"the momentum is {kinds[0]} but its weights are now {kinds[1]}: make a new optimizer after changing a layer")
        return rule, buffer

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # GradScaler asks before it steps
        if any(group["fused"] for group in self.param_groups):
            raise RuntimeError("EFCNSGD(fused=True) has applied scaled gradients already: use fused=False with GradScaler")
        return False

    def _claim(self) -> None:
        for p, group in self._grouped():
            if group["fused"] and p not in self._claims:
                self._claims[p] = Claim(self, p)

    def _check(self, claim: Claim) -> None:
        p = claim.weights
        if self.fuses(p) and not claim.holds():
            raise RuntimeError(f"a later EFCNSGD(fused=True) has taken over the weights of shape {tuple(p.shape)}: step that one")
        if claim.applied and p.grad is not None:
            raise RuntimeError(
                f"one part of the gradient of the weights of shape {tuple(p.shape)} was applied in the backward, another lies in .grad, "
                "for they are used outside of their layer: set fused=False for them"
            )

    def _group(self, weights: Tensor) -> dict[str, Any]:
        return next(group for p, group in self._grouped() if p is weights)

    def _grouped(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        return ((p, group) for group in self.param_groups for p in group["params"])


def _check_options(options: dict[str, Any]) -> None:
    for name in ("lr", "momentum", "weight_decay"):
        if not options[name] >= 0:
            raise ValueError(f"{name} must be at least 0, got {options[name]}")
    if options["nesterov"] and not options["momentum"] > 0:
        raise ValueError(f"nesterov needs momentum > 0, got momentum={options['momentum']}")
    for name in ("dampening", "maximize"):
        if options.get(name):
            raise ValueError(f"EFCNSGD has no {name}, got {name}={options[name]}: use torch.optim.SGD")
