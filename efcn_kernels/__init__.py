"""The equivalent fully-connected network of a CNN: every weight free, and only the weights that exist."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch

from efcn_kernels import versions

try:
    __version__ = version("efcn_kernels")
except PackageNotFoundError:
    # run from a source tree that was never installed
    __version__ = "0+unknown"

# before anything that another torch may lack
versions.check(torch.__version__)

from efcn_kernels.mapping import cnn_to_efcn, efcn_to_cnn, verify_equivalence
from efcn_kernels.nn import EFCNSGD, EFCNLinear, LocallyConnected, LocallyConnected1d, LocallyConnected2d, LocallyConnected3d
from efcn_kernels.ops import batch_last, bsr_linear, build_info
from efcn_kernels.pattern.geometry import ConvGeometry
from efcn_kernels.pattern.layout import BlockLayout

__all__ = [
    "EFCNSGD",
    "BlockLayout",
    "ConvGeometry",
    "EFCNLinear",
    "LocallyConnected",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "LocallyConnected3d",
    "batch_last",
    "bsr_linear",
    "build_info",
    "cnn_to_efcn",
    "efcn_to_cnn",
    "verify_equivalence",
]
