"""A whole training step of the networks of d'Ascoli et al. 2019: the CNN and its eLCN, 250 images of 3x32x32."""

from typing import Any

import pytest

from benchmarks.network import NETWORKS, trainings

BATCH = 250


@pytest.mark.parametrize("way", ["cnn, NCHW", "cnn, channels_last", "elcn"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_step(benchmark: Any, name: str, way: str) -> None:
    # whose answers are checked there
    benchmark(trainings(name, BATCH)[way])
