"""Compare results, and say what broke: pass, batch, memory order, dtype, backend, pattern, and the worst place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from efcn_kernels.verify.tolerance import PLAIN_FACTOR, Product, floor
from tests.support.memory_orders import in_words
from tests.support.oracle import Engine, Passes, expected, pairs, run_passes
from tests.support.problems import OPS

AXES = {OPS[0]: ("n", "output site", "co"), OPS[1]: ("n", "input site", "ci"), OPS[2]: ("block", "co", "ci")}


def fault(op: str, got: Tensor, wanted: Product, dtype: torch.dtype, layout: BlockLayout) -> str | None:
    """What is wrong with the result of a pass, in words, or None."""
    if got.shape != wanted.exact.shape:
        return f"its shape is {tuple(got.shape)}, not {tuple(wanted.exact.shape)}"
    if got.dtype != dtype:
        return f"its dtype is {got.dtype}, not {dtype}"
    share = wanted.ratio(got)
    if share <= 1:
        return None
    # as `ratio` has it, for each number: only to find the place
    allowed = PLAIN_FACTOR * wanted.plain_error + floor(wanted.exact, wanted.absolute, dtype)
    shares = ((got.double() - wanted.exact).abs() / allowed).nan_to_num(nan=torch.inf, posinf=torch.inf)
    many = f"{int((shares > 1).sum()):,} of {shares.numel():,} numbers are wrong"
    nans = f", {int(got.isnan().sum()):,} are NaN" if got.isnan().any() else ""
    at = _unraveled(int(shares.argmax()), got.shape)
    worst = f"the worst at {_place(op, at, layout)}: got {got[at].item()!r}, exact {wanted.exact[at].item()!r}"
    return f"{many}{nans}; the error is {share:.3g} times what is allowed, {worst}"


def setting(engine: Engine | str, layout: BlockLayout, operands: Mapping[str, Tensor | None], note: str = "") -> str:
    """Everything that a result depends on: batch, dtype, where it is computed, the pattern, and how each operand lies in memory."""
    given = {name: t for name, t in operands.items() if t is not None}
    batch = next(t.size(0) for name, t in given.items() if name in ("x", "gy"))
    dtype = next(iter(given.values())).dtype
    facts = [f"batch {batch}", str(dtype).removeprefix("torch."), f"backend {engine}", f"threads {torch.get_num_threads()}"]
    facts += ["with bias" if "bias" in given else "without bias", *([note] if note else [])]
    return "\n".join([", ".join(facts), repr(layout), *(f"{name} {in_words(t)}" for name, t in given.items() if t.dim() == 3)])


def check_pass(op: str, got: Tensor, wanted: Product, layout: BlockLayout, where: str) -> None:
    """One pass within the rule of `efcn_kernels.verify.tolerance`, or what is wrong with it; `where`: see `setting`. Of the dtype of `got`."""
    if wrong := fault(op, got, wanted, got.dtype, layout):
        raise AssertionError(f"{op}: {wrong}\n{where}")


def check_passes(
    engine: Engine, got: Passes, layout: BlockLayout, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, note: str = ""
) -> None:
    """Each pass within the rule of `efcn_kernels.verify.tolerance`, or what is wrong with which."""
    wanted = expected(x, values, bias, gy, layout)
    faults = {op: fault(op, result, exact, x.dtype, layout) for op, result, exact in zip(OPS, got, wanted, strict=True)}
    if any(faults.values()):
        lines = [f"{op}: {wrong}" for op, wrong in faults.items() if wrong] + [f"{op}: right" for op, wrong in faults.items() if not wrong]
        raise AssertionError("\n".join([*lines, setting(engine, layout, {"x": x, "values": values, "bias": bias, "gy": gy}, note)]))


def check(engine: Engine, layout: BlockLayout, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, note: str = "") -> None:
    """Run the three passes and compare them with the dense float64 oracle."""
    check_passes(engine, run_passes(engine, x, values, bias, gy, layout), layout, x, values, bias, gy, note)


def check_equal(got: Iterable[Tensor | None], wanted: Iterable[Tensor | None], names: Iterable[str], where: str) -> None:
    """The same bits (NaN is no number: it equals nothing), or which result, how many numbers and where the first is."""
    compared = list(zip(got, wanted, strict=True))
    named = list(names)[: len(compared)]
    for name, (a, b) in zip(named, compared, strict=True):
        if (wrong := difference(a, b)) is not None:
            axes = AXES.get(name, ())
            raise AssertionError(f"{name}: {wrong}{' (' + ', '.join(axes) + ')' if axes else ''}\n{where}")


def difference(a: Tensor | None, b: Tensor | None) -> str | None:
    """Where two tensors have other bits, in words, or None."""
    if a is None or b is None:
        return None if a is b else f"got {'nothing' if a is None else 'a tensor'}, not {'nothing' if b is None else 'a tensor'}"
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"got {tuple(a.shape)} {a.dtype}, not {tuple(b.shape)} {b.dtype}"
    if torch.equal(a, b):
        return None
    other = a != b
    at = _unraveled(int(other.flatten().long().argmax()), a.shape)
    return f"{int(other.sum()):,} of {a.numel():,} numbers differ, the first at {at}: got {a[at].item()!r}, not {b[at].item()!r}"


def _unraveled(flat: int, shape: torch.Size) -> tuple[int, ...]:
    at = []
    for size in reversed(shape):
        at.append(flat % size)
        flat //= size
    return tuple(reversed(at))


def _place(op: str, at: tuple[int, ...], layout: BlockLayout) -> str:
    sites = dict(zip(("output site", "input site"), pairs(layout)[at[0]])) if op == OPS[2] else {}
    named = {**dict(zip(AXES[op], at, strict=True)), **sites}
    return f"({', '.join(f'{name} {i}' for name, i in named.items())})"
