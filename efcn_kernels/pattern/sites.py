"""Sites: a site of a layer with groups is (group, position), the group varying fastest."""

from __future__ import annotations

import numpy as np

from efcn_kernels.pattern.geometry import Ints


def with_groups(out: Ints, into: Ints, groups: int) -> tuple[Ints, Ints]:
    """Pairs of positions as pairs of sites, one for each group; a group reads itself only."""
    if groups == 1:
        return out, into
    group = np.arange(groups, dtype=np.int32)
    return (out[:, None] * groups + group).reshape(-1), (into[:, None] * groups + group).reshape(-1)
