"""How networks look in every figure."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours, told apart with every kind of colour vision; markers and dashes say the same once more
STYLES: dict[str, dict[str, Any]] = {
    "CNN": {"color": "#000000", "marker": "o", "linestyle": "-"},
    "eLCN": {"color": "#0072B2", "marker": "s", "linestyle": "--"},
    "halo-1": {"color": "#E69F00", "marker": "^", "linestyle": "-."},
    "eFCN": {"color": "#D55E00", "marker": "D", "linestyle": ":"},
    "FCN": {"color": "#009E73", "marker": "v", "linestyle": (0, (5, 1))},
    "FCN-norms": {"color": "#CC79A7", "marker": "P", "linestyle": (0, (3, 1, 1, 1))},
}
_OTHER_HALO = {"color": "#56B4E9", "marker": "<", "linestyle": "-."}


def style_of(arm: str) -> dict[str, Any]:
    """Colour, marker and dashes of a network by its name."""
    return STYLES.get(arm, _OTHER_HALO)
