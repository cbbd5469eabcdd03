"""Delta, sharing deviation, dead weights and distances, on matrices that fit on paper and against dense ones."""

import math

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import LocallyConnected1d, cnn_to_efcn, efcn_to_cnn
from efcn_kernels.analysis import dead_of_default, dead_of_snapshot, distance, norms, off_local_share, sharing_deviation
from efcn_kernels.study.models import skinny_cnn
from efcn_kernels.study.start import default_fcn
from tests.support.line import line


def _mapped(*taps: float) -> tuple[nn.Sequential, nn.Module, LocallyConnected1d]:
    """A line's CNN, its full eFCN and the layer, the matrix of which is [[b, c, 0], [a, b, c], [0, a, b]] for taps a, b, c."""
    cnn = line(*taps)
    network = cnn_to_efcn(cnn, torch.zeros(2, 1, 3), support="full")
    layer = next(network.children())
    assert isinstance(layer, LocallyConnected1d)
    return cnn, network, layer


def test_delta_by_hand() -> None:
    cnn, network, layer = _mapped(1.0, 2.0, 3.0)
    assert layer.off_weight is not None
    # local: 2 of 1, 3 of 2, 2 of 3 squared: 2 + 12 + 18 = 32
    assert off_local_share(network) == {"0": 0.0, "whole": 0.0}
    layer.off_weight.data.copy_(torch.tensor([3.0, 4.0]).view(2, 1, 1))
    assert math.isclose(off_local_share(network)["0"], math.sqrt(25 / 57))
    # over the padded line the first and the last output have one tap each in the padding: 1 and 9 more
    dead = dead_of_snapshot(network, cnn)
    assert (dead["0"].local, dead["0"].off_local) == (10.0, 0.0)
    assert math.isclose(off_local_share(network, dead)["whole"], math.sqrt(25 / 67))


def test_dead_weights_of_the_default_initialisation_by_hand() -> None:
    _, network, _ = _mapped(1.0, 2.0, 3.0)
    # 3 outputs x 5 padded inputs: 15 weights, of them 6 dead, of them 2 local; mean square 1 / (3 * 5)
    dead = dead_of_default(network)["0"]
    assert math.isclose(dead.local, 2 / 15)
    assert math.isclose(dead.off_local, 4 / 15)


def test_a_default_fcn_has_the_published_delta() -> None:
    """0.975 for the Skinny FCN of d'Ascoli et al., dead weights counted; sqrt(1 - the mean local share) by arithmetic."""
    torch.manual_seed(0)
    network = default_fcn(skinny_cnn(3, 32, 10), torch.zeros(2, 3, 32, 32))
    found = off_local_share(network, dead_of_default(network))
    assert round(found["whole"], 3) == 0.975
    for name, local in (("conv1", 16 / 36**2), ("conv2", 25 / 12**2), ("conv3", 9 / 5**2)):
        assert math.isclose(found[name], math.sqrt(1 - local), rel_tol=2e-3)
    assert off_local_share(network)["whole"] < found["whole"]


def test_other_padding_has_no_dead_weights(images: Tensor) -> None:
    cnn = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.ConvTranspose2d(3, 1, 2, padding=1))
    network = cnn_to_efcn(cnn, images, support="full")
    for dead in (dead_of_default(network), dead_of_snapshot(network, cnn)):
        assert [(part.local, part.off_local) for part in dead.values()] == [(0.0, 0.0)] * 2


def test_sharing_deviation_by_hand() -> None:
    _, network, layer = _mapped(1.0, 2.0, 3.0)
    assert sharing_deviation(network) == {"0": 0.0, "whole": 0.0}
    # local blocks in row order: b c | a b c | a b; the b of the first row 3 too large: its mean moves by 1
    layer.weight.data[0] += 3
    # 2^2 + 1 + 1 = 6 over 1 + 1 + (25 + 4 + 4) + 9 + 9 = 53
    assert math.isclose(sharing_deviation(network)["whole"], math.sqrt(6 / 53), rel_tol=1e-6)
    # off-local weights are another matter
    assert layer.off_weight is not None
    layer.off_weight.data += 5
    assert math.isclose(sharing_deviation(network)["whole"], math.sqrt(6 / 53), rel_tol=1e-6)


def test_distances_by_hand() -> None:
    cnn, network, layer = _mapped(1.0, 2.0, 3.0)
    assert distance(network, cnn) == {"0": 0.0, "whole": 0.0}
    layer.weight.data[0] += 3
    assert layer.off_weight is not None
    layer.off_weight.data[0] = 4
    assert math.isclose(distance(network, cnn)["whole"], 5.0)
    # the nearest CNN has the mean of b, so 6 of the 9 remain, and off-local weights as before
    assert math.isclose(distance(network)["whole"], math.sqrt(6 + 16), rel_tol=1e-6)


def test_distances_are_those_of_the_dense_matrices(cnn: nn.Sequential, efcn: nn.Module, images: Tensor) -> None:
    head = efcn.get_parameter("4.weight").detach()
    for other in (cnn, efcn_to_cnn(efcn)):
        embedded = cnn_to_efcn(other, images, support="full")
        apart = [(p - q).detach() for p, q in zip(efcn.parameters(), embedded.parameters(), strict=True)]
        found = distance(efcn, other)
        assert math.isclose(found["whole"], float(torch.cat([d.flatten() for d in apart]).double().norm()), rel_tol=1e-5)
        assert math.isclose(found["4.weight"], float((head - embedded.get_parameter("4.weight").detach()).norm()), abs_tol=1e-6)
    assert math.isclose(distance(efcn)["whole"], distance(efcn, efcn_to_cnn(efcn))["whole"])
    assert math.isclose(norms(efcn)["whole"], math.sqrt(sum(float(p.detach().double().square().sum()) for p in efcn.parameters())), rel_tol=1e-6)


def test_the_nearest_cnn_is_the_nearest(efcn: nn.Module) -> None:
    nearest = distance(efcn)["whole"]
    for _ in range(5):
        other = efcn_to_cnn(efcn)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        assert distance(efcn, other)["whole"] > nearest


def test_groups_count_like_others(images: Tensor) -> None:
    cnn = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2))
    network = cnn_to_efcn(cnn, images, support="full")
    assert distance(network, cnn)["whole"] == 0.0
    with torch.no_grad():
        network.get_parameter("0.bias").add_(1.0)
    assert math.isclose(distance(network, cnn)["whole"], math.sqrt(4 * 42), rel_tol=1e-6)


def test_what_is_not_mapped_is_said(cnn: nn.Sequential, efcn: nn.Module) -> None:
    with pytest.raises(ValueError, match="no locally connected layer: map it with cnn_to_efcn first"):
        off_local_share(cnn)
    with pytest.raises(ValueError, match=r"the CNN has no 0, 2, 4.weight, 4.bias: expected the one"):
        distance(efcn, nn.Sequential())
