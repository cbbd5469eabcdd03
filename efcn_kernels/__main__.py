"""`python -m efcn_kernels`: the `efcn` command."""

from efcn_kernels.cli import main

main()
