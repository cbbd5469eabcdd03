"""Which weights exist: the geometry of convolutions, layouts of blocks, and what shares a weight."""
