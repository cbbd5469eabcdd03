"""Whole networks: a CNN to its eFCN and back, and what a network can grow into and take along."""
