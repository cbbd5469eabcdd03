"""Heat maps: the filter patch on one colour scale, what grew around it on its own."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Image = NDArray[np.float32]


def draw_heatmaps(images: dict[str, Image], unit: dict[str, int], relax_time: int) -> Figure:
    """The incoming weights of one output unit for each network. Above: its window alone; below: the whole image around it.

    images: (C, H, W) by the network's name. unit: the fields of `analysis.Unit`.
    """
    # of several input channels the one with the strongest filter
    channel = int(np.argmax([np.abs(plane).sum() for plane in next(iter(images.values()))]))
    window = (slice(unit["top"], unit["bottom"]), slice(unit["left"], unit["right"]))
    planes = {name: image[channel] for name, image in images.items()}
    local = max(float(np.abs(plane[window]).max()) for plane in planes.values())
    outside = {name: _outside(plane, window) for name, plane in planes.items()}
    off_local = max(float(np.nanmax(np.abs(plane), initial=0.0)) for plane in outside.values())
    # where nothing is stored around any window there is nothing to see below
    rows = 2 if off_local else 1

    figure = Figure(figsize=(2.6 * len(planes) + 1.2, 2.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, len(planes), squeeze=False)
    extent = (unit["left"] - 0.5, unit["right"] - 0.5, unit["bottom"] - 0.5, unit["top"] - 0.5)
    for column, (name, plane) in enumerate(planes.items()):
        above = axes[0][column]
        patch = above.imshow(plane[window], cmap="RdBu_r", vmin=-local, vmax=local, extent=extent)
        above.set_title(name)
        axes[-1][column].set_xlabel("input column / pixels")
        if off_local:
            below = axes[1][column]
            below.set_facecolor("0.88")
            around = below.imshow(outside[name], cmap="PuOr_r", vmin=-off_local, vmax=off_local)
            below.imshow(plane[window], cmap="RdBu_r", vmin=-local, vmax=local, extent=extent)
            below.set_xlim(-0.5, plane.shape[1] - 0.5)
            below.set_ylim(plane.shape[0] - 0.5, -0.5)
            below.add_patch(Rectangle((extent[0], extent[3]), extent[1] - extent[0], extent[2] - extent[3], fill=False, linewidth=1.2))
    axes[0][0].set_ylabel("window: input row / pixels")
    figure.colorbar(patch, ax=axes[0], label="local weight", shrink=0.8)
    if off_local:
        axes[1][0].set_ylabel("whole image: input row / pixels")
        figure.colorbar(around, ax=axes[1], label="off-local weight", shrink=0.8)
    figure.suptitle(
        f"Incoming weights of one unit of the first layer, relaxed at $t_w$ = {relax_time}\n(channel {unit['channel']}, row {unit['row']}, "
        f"column {unit['column']}"
        + (f", input channel {channel}" if len(next(iter(images.values()))) > 1 else "")
        + (")" if rows == 1 else "); grey: not stored"),
        fontsize=10,
    )
    return figure


def _outside(plane: Image, window: tuple[slice, slice]) -> Image:
    """The off-local weights; what is local or not stored becomes nan."""
    outside = np.where(plane == 0, np.nan, plane).astype(np.float32)
    outside[window] = np.nan
    return outside
