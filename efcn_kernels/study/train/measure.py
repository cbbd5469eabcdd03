"""What is measured of a network on its way: the quantities of `analysis` as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from efcn_kernels import analysis
from efcn_kernels.analysis.layers import mapped_layers
from efcn_kernels.mapping import cnn_to_efcn, efcn_to_cnn
from efcn_kernels.study.train.setting import Setting

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# heat maps are kept of so many
UNITS = 3


class Measuring:
    """The measurements of one task.

    arm: its name; snapshot: the CNN that it started from, None for an FCN.
    """

    def __init__(self, setting: Setting, arm: str, snapshot: nn.Module | None) -> None:
        self.setting, self.arm, self.snapshot = setting, arm, snapshot

    def each_epoch(self, network: nn.Module) -> dict[str, Any]:
        """Deviations and distances, cheap: a few passes over the weights. Nothing of a CNN, where they need a mapping first."""
        return {} if self.arm == "CNN" else self._deviations(network)

    def now_and_then(self, network: nn.Module) -> dict[str, Any]:
        """With passes over the test set: masked accuracies, the nearest CNN's accuracy, margins."""
        setting = self.setting
        found: dict[str, Any] = {}
        margins = analysis.margins(network, *setting.test, setting.batch_size).double().cpu()
        found["margins"] = torch.quantile(margins, torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
        if self.arm == "CNN":
            return found | self._deviations(self._embedded(network))
        found["nearest_cnn"] = self.test_metrics(efcn_to_cnn(network))
        if any(layer.off_weight is not None for layer in mapped_layers(network).values()):
            with analysis.masked(network, "off-local"):
                found["without_off_local"] = self.test_metrics(network)
            with analysis.masked(network, "local"):
                found["without_local"] = self.test_metrics(network)
        return found

    def test_metrics(self, network: nn.Module) -> dict[str, float] | None:
        """Loss and accuracy on the test set; None where the loss is not finite."""
        try:
            return asdict(analysis.evaluate(network, *self.setting.test, self.setting.batch_size))
        except FloatingPointError:
            return None

    def at_the_start(self, network: nn.Module) -> dict[str, Any]:
        """Whether the mapped network is the CNN, on all test images."""
        if self.snapshot is None or (self.arm not in ("eLCN", "eFCN") and not self.arm.startswith("halo-")):
            return {}
        setting = self.setting
        return {"exactness": analysis.exactness(network, self.snapshot, *setting.test, setting.batch_size)}

    def at_the_end(self, network: nn.Module) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """(spectra and sizes, heat maps (UNITS, C, H, W) of central units of the first layer)."""
        setting = self.setting
        mapped = self._embedded(network)
        cnn = efcn_to_cnn(mapped)
        found: dict[str, Any] = {"sizes": analysis.sizes(network, cnn, setting.example), "spectrum": {}}
        count = setting.config.measure.singular_values
        for name, layer in mapped_layers(mapped).items() if count else ():
            values = analysis.singular_values(layer, min(count, layer.layout.in_features - 1, layer.layout.out_features - 1))
            found["spectrum"][name] = {
                "singular_values": values.tolist(),
                "stable_rank": analysis.stable_rank(layer, float(values[0])),
                "participation_rank": analysis.participation_rank(layer),
            }
        units = [analysis.central_unit(self.snapshot or cnn, setting.example, rank) for rank in range(UNITS)]
        found["units"] = [asdict(unit) for unit in units]
        return found, np.stack([analysis.incoming_weights(mapped, setting.example, unit) for unit in units])

    def right(self, network: nn.Module) -> NDArray[np.bool_]:
        """(N,) which test images it classifies right: two networks are compared image by image."""
        found: NDArray[np.bool_] = analysis.right(network, *self.setting.test, self.setting.batch_size).cpu().numpy()
        return found

    def _embedded(self, network: nn.Module) -> nn.Module:
        return cnn_to_efcn(network, self.setting.example) if self.arm == "CNN" else network

    def _deviations(self, mapped: nn.Module) -> dict[str, Any]:
        dead = None
        if self.snapshot is not None and self.arm != "FCN-norms":
            dead = analysis.dead_of_snapshot(mapped, self.snapshot)
        elif self.arm == "FCN":
            dead = analysis.dead_of_default(mapped)
        found: dict[str, Any] = {
            "delta": analysis.off_local_share(mapped),
            "sharing": analysis.sharing_deviation(mapped),
            "distance_to_cnn": analysis.distance(mapped)["whole"],
            "norms": analysis.norms(mapped),
        }
        if dead is not None:
            found["delta_with_dead"] = analysis.off_local_share(mapped, dead)
        if self.snapshot is not None:
            found["distance_to_snapshot"] = analysis.distance(mapped, self.snapshot)["whole"]
        return found
