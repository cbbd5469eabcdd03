"""The networks that a demonstration compares: how each is made from a snapshot of the CNN."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from efcn_kernels.mapping import cnn_to_efcn

Support = int | Literal["local", "full"] | None


@dataclass(frozen=True)
class Arm:
    """One way to go on from a snapshot: its name in tables and figures, and the support of its mapping (None: the CNN itself)."""

    name: str
    support: Support


CNN = Arm("CNN", None)
ELCN = Arm("eLCN", "local")
HALO = Arm("halo-1", 1)
EFCN = Arm("eFCN", "full")
ARMS = (CNN, ELCN, HALO, EFCN)


def build(arm: Arm, cnn: nn.Module, example: Tensor) -> nn.Module:
    """The network of `arm` with the function of `cnn`; `cnn` stays untouched. `example` is an input batch (N, C, H, W)."""
    if arm.support is None:
        return cnn
    network: nn.Module = cnn_to_efcn(cnn, example, support=arm.support)
    return network
