"""Data, models, training and the demonstration of the study."""
