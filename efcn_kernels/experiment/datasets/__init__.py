"""Readers, catalogue and download of the image sets; `efcn_kernels.experiment.data.load` is their front."""
