"""Layers: the equivalent fully-connected layer of a convolution, and torch's missing locally connected layers."""

from __future__ import annotations

from efcn_kernels.nn.locally_connected import LOCALLY_CONNECTED, EFCNLinear, LocallyConnected1d, LocallyConnected2d, LocallyConnected3d

__all__ = ["LOCALLY_CONNECTED", "EFCNLinear", "LocallyConnected1d", "LocallyConnected2d", "LocallyConnected3d"]
