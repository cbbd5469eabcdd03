"""Whole networks: a CNN to its eFCN and back, what a network can grow into and be cut to, and what an optimizer takes along."""

from __future__ import annotations

from efcn_kernels.mapping.equivalence import verify_equivalence
from efcn_kernels.mapping.optimizer_state import carry_state, parameter_groups
from efcn_kernels.mapping.supports import cut, grow
from efcn_kernels.mapping.to_cnn import efcn_to_cnn
from efcn_kernels.mapping.to_efcn import cnn_to_efcn

__all__ = ["carry_state", "cnn_to_efcn", "cut", "efcn_to_cnn", "grow", "parameter_groups", "verify_equivalence"]
