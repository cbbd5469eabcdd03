"""Whether what is to be timed computes what it should: nothing is timed before."""

from __future__ import annotations

from torch import Tensor

from efcn_kernels.bench.run import WrongAnswer
from efcn_kernels.bench.step import Answers, Ours, whole
from efcn_kernels.verify import tolerance

_ANSWER_OF = {"forward": "y", "grad_input": "gx", "grad_weight": "gvalues"}


def check_pass(who: str, name: str, got: object, ours: Ours, operands: float) -> None:
    """Raise WrongAnswer unless a pass gave what the step did; `got` as Ours.passes gives it, `operands` as in tolerance.floor."""
    field = _ANSWER_OF[name]
    wanted, scale = (getattr(answers, field) for answers in (ours.answers, ours.absolute))
    if isinstance(got, list):
        got = whole(ours.layer.layout, got)
    else:
        wanted, scale = ours.sites(wanted), ours.sites(scale)
    _check(f"{name} of {who}", got, wanted, scale, ours, operands)


def check_step(who: str, got: object, ours: Ours, operands: float, *, grad_input: bool = True) -> None:
    """Raise WrongAnswer unless a step gave what the first one did; `got` as Ours.step gives it."""
    assert isinstance(got, tuple)
    y, *gx, gweights, gbias = (*got[: 1 + grad_input], got[1 + grad_input : -1], got[-1])
    fields = [field for field in Answers._fields if grad_input or field != "gx"]
    for field, value in zip(fields, (y, *gx, whole(ours.layer.layout, gweights), gbias), strict=True):
        _check(f"{field} of {who}", value, getattr(ours.answers, field), getattr(ours.absolute, field), ours, operands)


def _check(what: str, got: object, wanted: Tensor, scale: Tensor, ours: Ours, operands: float) -> None:
    assert isinstance(got, Tensor)
    apart = tolerance.disagreement(got, wanted, scale, operands)
    if not apart <= 1:
        raise WrongAnswer(f"{ours.case.name}: {what} is {apart:.3g} times as far from the first step's answer as rounding explains")
