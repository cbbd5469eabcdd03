"""What d'Ascoli et al. 2019 (arXiv 1906.06766) measure of a network and of its way out of the CNN subspace.

Every function takes a network as `cnn_to_efcn` makes it; a plain CNN is first mapped with support "local", where it is the same point of
the same space.
"""

from __future__ import annotations

from efcn_kernels.analysis.accuracy import Metrics, evaluate, margins, right
from efcn_kernels.analysis.deviation import off_local_share, sharing_deviation
from efcn_kernels.analysis.distance import distance, norms
from efcn_kernels.analysis.exactness import exactness
from efcn_kernels.analysis.heatmaps import Unit, central_unit, incoming_weights
from efcn_kernels.analysis.masking import masked
from efcn_kernels.analysis.padding import dead_of_default, dead_of_snapshot
from efcn_kernels.analysis.paths import Averaged, curvilinear, linear, string
from efcn_kernels.analysis.sizes import sizes
from efcn_kernels.analysis.spectrum import participation_rank, singular_values, stable_rank

__all__ = [
    "Averaged",
    "Metrics",
    "Unit",
    "central_unit",
    "curvilinear",
    "dead_of_default",
    "dead_of_snapshot",
    "distance",
    "evaluate",
    "exactness",
    "incoming_weights",
    "linear",
    "margins",
    "masked",
    "norms",
    "off_local_share",
    "participation_rank",
    "right",
    "sharing_deviation",
    "singular_values",
    "sizes",
    "stable_rank",
    "string",
]
