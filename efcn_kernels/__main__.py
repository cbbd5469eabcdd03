"""`python -m efcn_kernels`: the `efcn` command."""

from __future__ import annotations

from efcn_kernels.cli import main

main()
