"""Data, models, training and the demonstration of the study (layer `experiment` of the package)."""
