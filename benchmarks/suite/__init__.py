"""The one-call suite of a GPU: right, fast, and how near to what a model of the chip expects. `benchmarks/gpu_suite.sh` runs it."""
