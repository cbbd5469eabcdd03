"""Readers, catalogue and download of the image sets; `efcn_kernels.study.data.sets.load` is their front."""
