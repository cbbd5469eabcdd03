"""One training of a study: epochs, checkpoints, and what is measured on the way."""
