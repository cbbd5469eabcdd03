"""Tests of data, training and the demonstration."""
