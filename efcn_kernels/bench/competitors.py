"""What one would use instead of this package: the convolution, a dense Linear, unfold + baddbmm, torch's CSR."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efcn_kernels.bench.step import Ours, Step, gradients, whole
from efcn_kernels.nn import EFCNLinear
from efcn_kernels.ops import batch_last
from efcn_kernels.pattern.sharing import TapBlocks, tap_blocks
from efcn_kernels.pattern.sites import feature_bias_to_sites
from efcn_kernels.verify import tolerance

Comparison = dict[str, tuple[Tensor, Tensor, Tensor]]


class Convolution:
    """The CNN's own layer, with shared weights: in NCHW and in channels_last memory order."""

    local_only = True

    def __init__(self, ours: Ours) -> None:
        conv = ours.conv
        last = copy.deepcopy(conv).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x, gy = (t.to(memory_format=torch.channels_last) for t in (ours.x, ours.gy))
        self.variants: Mapping[str, Step] = {
            "NCHW": lambda: gradients(conv, ours.x, ours.gy),
            "channels_last": lambda: gradients(last, x, gy),
        }

    @staticmethod
    def bytes(ours: Ours) -> int:
        return 2 * _size(ours.x, ours.gy)

    def compare(self, ours: Ours) -> Comparison:
        y, gx, gweight, gbias = gradients(ours.conv, ours.x, ours.gy)
        mine, scale = ours.answers, ours.absolute
        # each of our gradients is rounded before it is added to those of the other sites
        weights, weights_scale, weights_rounded = (_shared(ours, g) for g in (mine.gvalues, scale.gvalues, mine.gvalues.abs()))
        bias, bias_scale, bias_rounded = (g.double().view(-1, ours.case.out_channels).sum(0) for g in (mine.gbias, scale.gbias, mine.gbias.abs()))
        gx_scale = scale.gx
        if not _has_own_kernel(ours.x):
            # by way of columns, whose gradients are added up in the dtype itself, as in Unfold
            gx_scale = scale.gx + tolerance.rounded(scale.gx, gx.dtype, ours.case.geometry.num_taps)
        return {
            "y": (y, mine.y, scale.y),
            "gx": (gx, mine.gx, gx_scale),
            "gweight": (gweight, weights, weights_scale + tolerance.rounded(weights_rounded, y.dtype)),
            "gbias": (gbias, bias, bias_scale + tolerance.rounded(bias_rounded, y.dtype)),
        }


class DenseLinear:
    """nn.Linear with the whole matrix, zeros included; it trains them too.

    Through torch.mm, which is MKL's in usual builds, and in float32 through oneDNN's inner product, which torch takes for
    mkldnn tensors only: images and their gradients are such tensors from the start, but torch copies the weight's gradient
    once more on its way out.
    """

    local_only = False

    def __init__(self, ours: Ours) -> None:
        layout, case = ours.layer.layout, ours.case
        (co, ci), groups = layout.block, layout.groups
        linear = nn.Linear(1, 1).to(ours.x.dtype)
        weight = ours.x.new_zeros(case.out_features, case.in_features)
        blocks = weight.view(groups, co, layout.out_sites // groups, groups, ci, layout.in_sites // groups).permute(2, 0, 5, 3, 1, 4)
        row, col = layout.places(ours.x.device)
        blocks[row // groups, row % groups, col // groups, col % groups] = ours.values
        linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(_flat_bias(ours))
        x, gy = ours.x.flatten(1), ours.gy.flatten(1)
        self._steps: dict[str, Callable[[], tuple[Tensor, ...]]] = {_library(x.device): lambda: gradients(linear, x, gy)}
        if x.is_cpu and torch.backends.mkldnn.is_available() and x.dtype == torch.float32:
            mx, mgy = x.to_mkldnn(), gy.to_mkldnn()
            self._steps["oneDNN"] = lambda: gradients(linear, mx, mgy)
        self.variants: Mapping[str, Step] = self._steps

    @staticmethod
    def bytes(ours: Ours) -> int:
        # the weight, its gradient and one copy of that; images and outputs with their gradients, twice
        weight = ours.case.out_features * ours.case.in_features * ours.x.element_size()
        return 3 * weight + 4 * _size(ours.x, ours.gy)

    def compare(self, ours: Ours) -> Comparison:
        found: Comparison = {}
        for name, step in self._steps.items():
            y, gx, gweight, gbias = (t.to_dense() if t.is_mkldnn else t for t in step())
            layer = EFCNLinear.from_dense(gweight, ours.layer.layout)
            gvalues = whole(layer.layout, [weights.detach() for weights, _ in layer._parts()])
            found |= {f"{answer} ({name})": form for answer, form in _in_our_form(ours, y, gx, gvalues, gbias).items()}
        return found


class Unfold:
    """F.unfold, then one matrix product per output site: how locally connected layers are usually written."""

    local_only = True

    def __init__(self, ours: Ours) -> None:
        case, geometry = ours.case, ours.case.geometry
        groups, sites = case.groups, ours.gy[0, 0].numel()
        self._where = _where(ours)
        self._taps = geometry.num_taps
        co, ci = geometry.block
        kernels = ours.x.new_zeros(sites, groups, self._taps, co, ci)
        kernels[self._where.out, self._where.group, self._where.tap] = ours.values[self._where.block]
        # (site and group, channel and tap, Co), the order of F.unfold's columns
        weight = kernels.permute(0, 1, 4, 2, 3).reshape(sites * groups, ci * self._taps, co).contiguous().requires_grad_()
        assert ours.layer.bias is not None
        bias = ours.layer.bias.detach().unsqueeze(1).clone().requires_grad_()

        def forward(x: Tensor) -> Tensor:
            columns = F.unfold(x, case.kernel, case.dilation, case.padding, case.stride)
            grouped = columns.view(x.size(0), groups, ci * self._taps, sites).permute(3, 1, 0, 2).flatten(0, 1)
            y = torch.baddbmm(bias, grouped, weight)
            return y.view(sites, groups, x.size(0), co).permute(2, 1, 3, 0).reshape(ours.gy.shape)

        run = self.prepared(forward)
        self._step: Callable[[], tuple[Tensor, ...]] = lambda: _through(run, ours.x, (weight, bias), ours.gy)
        self.variants: Mapping[str, Step] = {"": self._step}

    @staticmethod
    def prepared(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The forward as it is run."""
        return forward

    @staticmethod
    def bytes(ours: Ours) -> int:
        # the columns, their transposed copy, and the gradients of both
        taps = ours.case.geometry.num_taps
        columns = ours.x.size(0) * ours.case.in_channels * taps * ours.gy[0, 0].numel() * ours.x.element_size()
        return 4 * columns + 4 * _size(ours.layer.weight)

    def compare(self, ours: Ours) -> Comparison:
        y, gx, gweight, gbias = self._step()
        co, ci = ours.case.geometry.block
        by_tap = gweight.view(-1, ours.case.groups, ci, self._taps, co)
        gvalues = torch.empty_like(ours.answers.gvalues)
        gvalues[self._where.block] = by_tap[self._where.out, self._where.group, :, self._where.tap].transpose(1, 2)
        found = _in_our_form(ours, y, gx, gvalues, gbias.squeeze(1), flat_bias=False)
        theirs, mine, scale = found["gx"]
        # the gradients of columns are rounded, and F.unfold's backward may add those of a pixel up in the dtype itself
        return found | {"gx": (theirs, mine, scale + tolerance.rounded(scale, theirs.dtype, self._taps))}


class UnfoldCompiled(Unfold):
    """The same through torch.compile, for the sizes at hand."""

    compiler = "inductor"

    @classmethod
    def prepared(cls, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        # what was compiled for other layers would count against the limit of recompilations
        torch.compiler.reset()
        return torch.compile(forward, dynamic=False, backend=cls.compiler)


class Csr:
    """torch.sparse_csr with the backward that torch does not have for it written by hand."""

    local_only = False

    def __init__(self, ours: Ours) -> None:
        self._positions = _entries(ours)
        order = torch.argsort(self._positions)
        self._order = order
        entries = self._positions[order]
        shape = (ours.case.out_features, ours.case.in_features)
        row, col = entries // shape[1], entries % shape[1]
        values = ours.values.flatten()[order]
        turned = torch.argsort(col * shape[0] + row)
        with warnings.catch_warnings():
            # torch announces that its CSR tensors are in beta
            warnings.simplefilter("ignore")
            weight = _csr(row, col, values, shape)
            transposed = _csr(col[turned], row[turned], values[turned], shape[::-1])
        x, gy, bias = ours.x.flatten(1), ours.gy.flatten(1), _flat_bias(ours)

        def step() -> tuple[Tensor, ...]:
            y = torch.addmm(bias.unsqueeze(1), weight, x.T).T
            gx = (transposed @ gy.T).T
            gweight = torch.sparse.sampled_addmm(weight, gy.T, x, beta=0.0)
            return y, gx, gweight.values(), gy.sum(0)

        self._step = step
        self.variants: Mapping[str, Step] = {"": step}

    @staticmethod
    def bytes(ours: Ours) -> int:
        # values and int32 columns of the weight, its transpose and its gradient, and int64 sorting space
        return ours.layer.layout.nnz * (3 * (ours.x.element_size() + 4) + 6 * 8)

    def compare(self, ours: Ours) -> Comparison:
        y, gx, gweight, gbias = self._step()
        gvalues = torch.empty_like(ours.answers.gvalues)
        gvalues.view(-1)[self._order] = gweight
        return _in_our_form(ours, y, gx, gvalues, gbias)


class Single:
    """Our own layer in float32, on batch-last images: what a run in half precision is to beat."""

    local_only = False

    def __init__(self, ours: Ours) -> None:
        layer = copy.deepcopy(ours.layer).float()
        x, gy = (batch_last(t.float()) for t in (ours.x, ours.gy))
        self._layout = layer.layout
        self._step: Callable[[], tuple[Tensor, ...]] = lambda: gradients(layer, x, gy)
        self.variants: Mapping[str, Step] = {"": self._step}

    @staticmethod
    def bytes(ours: Ours) -> int:
        return 4 * (2 * ours.layer.layout.nnz + 2 * ours.x.numel() + 2 * ours.gy.numel())

    def compare(self, ours: Ours) -> Comparison:
        y, gx, *gweights, gbias = self._step()
        mine = (y, gx, whole(self._layout, gweights), gbias)
        return dict(zip(ours.answers._fields, zip((t.to(ours.x.dtype) for t in mine), ours.answers, ours.absolute)))


COMPETITORS: dict[str, Any] = {
    "conv": Convolution,
    "linear": DenseLinear,
    "unfold": Unfold,
    "csr": Csr,
    "float32": Single,
    "unfold-compiled": UnfoldCompiled,
}
# what a run in any dtype can be compared with
USUAL = ("conv", "linear", "unfold", "csr")


def _csr(row: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    counts = torch.bincount(row, minlength=shape[0])
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return torch.sparse_csr_tensor(crow.int(), col.int(), values, shape, check_invariants=False)


def _entries(ours: Ours) -> Tensor:
    """(nnz,) int64: the flat position of each entry of `values` in the dense matrix."""
    layout, case = ours.layer.layout, ours.case
    (co, ci), groups = layout.block, layout.groups
    row, col = (site.view(-1, 1, 1) for site in layout.places(ours.x.device))
    out_channel = row % groups * co + torch.arange(co, device=row.device).view(1, -1, 1)
    in_channel = col % groups * ci + torch.arange(ci, device=row.device).view(1, 1, -1)
    out_feature = out_channel * (layout.out_sites // groups) + row // groups
    return (out_feature * case.in_features + in_channel * (layout.in_sites // groups) + col // groups).flatten()


def _through(forward: Callable[[Tensor], Tensor], x: Tensor, parameters: tuple[Tensor, ...], gy: Tensor) -> tuple[Tensor, ...]:
    leaf = x.detach().requires_grad_()
    y = forward(leaf)
    return (y.detach(), *torch.autograd.grad(y, (leaf, *parameters), gy))


def _in_our_form(ours: Ours, y: Tensor, gx: Tensor, gvalues: Tensor, gbias: Tensor, *, flat_bias: bool = True) -> Comparison:
    if flat_bias:
        gbias = feature_bias_to_sites(gbias, ours.layer.layout)
    given = (y.reshape(ours.gy.shape), gx.reshape(ours.x.shape), gvalues, gbias)
    return dict(zip(ours.answers._fields, zip(given, ours.answers, ours.absolute)))


def _has_own_kernel(x: Tensor) -> bool:
    """Whether torch convolves numbers of this kind by a kernel of its own; in half precision on CPUs only where oneDNN does (AVX-512 and later)."""
    half = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    return not x.is_cpu or x.dtype not in half or bool(getattr(torch.ops.mkldnn, half[x.dtype])())


def _shared(ours: Ours, gvalues: Tensor) -> Tensor:
    """The gradient of the shared weight, float64, from that of the blocks: a sum over sites for each tap."""
    case, geometry = ours.case, ours.case.geometry
    where = _where(ours)
    total = gvalues.new_zeros(case.groups * geometry.num_taps, *geometry.block, dtype=torch.float64)
    total.index_add_(0, where.group * geometry.num_taps + where.tap, gvalues[where.block].double())
    by_tap = total.view(case.groups, geometry.num_taps, *geometry.block).permute(0, 2, 3, 1)
    return by_tap.reshape(case.out_channels, geometry.block[1], case.kernel, case.kernel)


def _where(ours: Ours) -> TapBlocks:
    return TapBlocks(*(index.to(ours.x.device) for index in tap_blocks(ours.case.geometry, ours.layer.layout)))


def _library(device: torch.device) -> str:
    if device.type == "cuda":
        return "cuBLAS" if torch.version.cuda else "hipBLAS"
    return "MKL" if torch.backends.mkl.is_available() else "BLAS"


def _flat_bias(ours: Ours) -> Tensor:
    """(out_features,) in the order of a flattened image."""
    assert ours.layer.bias is not None
    return ours.layer.bias.detach().reshape(-1, ours.case.out_channels).T.flatten()


def _size(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
