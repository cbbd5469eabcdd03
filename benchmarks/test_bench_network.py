"""A whole training step of the Skinny network of d'Ascoli et al. 2019: the CNN and its eLCN, 250 images of 3x32x32."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efcn_kernels import cnn_to_efcn, verify_equivalence
from efcn_kernels.experiment.models import skinny_cnn

BATCH = 250
# float32 roundings through four layers stay far below this; a lost tap does not
CLOSE = 1e-4


def train(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> Tensor:
    """One step of plain SGD; returns the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(network(x), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("name", ["cnn", "cnn channels_last", "elcn"])
def test_skinny_step(benchmark: Any, name: str) -> None:
    x, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    cnn = skinny_cnn(3, 32, 10)
    network: nn.Module = cnn
    if name == "elcn":
        network = cnn_to_efcn(cnn, x[:2])
        assert max(verify_equivalence(cnn, network, x[:50]).values()) < CLOSE
    elif name == "cnn channels_last":
        network, x = cnn.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # a rate of zero: every round computes the same step, however many there are
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    wanted = F.cross_entropy(cnn(x), labels).detach()
    loss = benchmark(train, network, optimizer, x, labels)
    torch.testing.assert_close(loss, wanted, rtol=CLOSE, atol=CLOSE)
