"""Layers: the equivalent fully-connected layer of a convolution, locally connected layers, and pooling and normalisation that stay batch-last."""

from __future__ import annotations

from efcn_kernels.nn.base import BlockSparse
from efcn_kernels.nn.linear import EFCNLinear
from efcn_kernels.nn.locally_connected import (
    LOCALLY_CONNECTED,
    LocallyConnected,
    LocallyConnected1d,
    LocallyConnected2d,
    LocallyConnected3d,
)
from efcn_kernels.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d
from efcn_kernels.nn.optim import EFCNSGD
from efcn_kernels.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Upsample

__all__ = [
    "EFCNSGD",
    "LOCALLY_CONNECTED",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BlockSparse",
    "EFCNLinear",
    "LocallyConnected",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "LocallyConnected3d",
    "MaxPool2d",
    "Upsample",
]
