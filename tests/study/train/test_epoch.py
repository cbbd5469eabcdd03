"""Training is deterministic and does what its formulas say."""

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels.analysis import evaluate
from efcn_kernels.study.data.sets import ImageData
from efcn_kernels.study.models import small_cnn
from efcn_kernels.study.train.epoch import EpochRecord, run_epoch, train_epoch

Set = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def sets(embedded: ImageData) -> tuple[Set, Set]:
    data = embedded.first(600, 250)
    return (data.normalised("train"), data.train_labels), (data.normalised("test"), data.test_labels)


def _train(sets: tuple[Set, Set], epochs: int, batch_size: int = 50) -> tuple[nn.Module, list[EpochRecord]]:
    torch.manual_seed(3)
    network = small_cnn(1, 28, 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    records = [run_epoch(network, *sets, epoch=i + 1, optimizer=optimizer, batch_size=batch_size) for i in range(epochs)]
    return network, records


def test_the_same_seed_gives_the_same_bits(sets: tuple[Set, Set]) -> None:
    (first, records), (second, again) = _train(sets, 3), _train(sets, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drop = {"seconds"}
    assert [{k: v for k, v in r.as_dict().items() if k not in drop} for r in records] == [
        {k: v for k, v in r.as_dict().items() if k not in drop} for r in again
    ]


def test_it_learns(sets: tuple[Set, Set]) -> None:
    _, records = _train(sets, 8)
    assert records[-1].train_loss < records[0].train_loss
    assert records[-1].test_accuracy > 0.5
    assert [record.epoch for record in records] == list(range(1, 9))


def test_metrics_do_not_depend_on_the_batch_size(sets: tuple[Set, Set]) -> None:
    network, _ = _train(sets, 1)
    whole, parts = evaluate(network, *sets[1], 250), evaluate(network, *sets[1], 33)
    assert abs(whole.loss - parts.loss) < 1e-5
    assert whole.accuracy == parts.accuracy
    logits = network(sets[1][0]).detach()
    assert abs(whole.loss - float(nn.functional.cross_entropy(logits, sets[1][1]))) < 1e-5
    assert whole.accuracy == float((logits.argmax(1) == sets[1][1]).double().mean())


def test_the_last_short_batch_counts_and_progress_is_told(sets: tuple[Set, Set]) -> None:
    network = small_cnn(1, 28, 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    seen: list[int] = []
    trained = train_epoch(network, *sets[0], optimizer=optimizer, batch_size=250, progress=seen.append)
    assert seen == [250, 250, 100]
    # nothing moved, so the running means are those of the whole set
    assert abs(trained.loss - evaluate(network, *sets[0], 600).loss) < 1e-5


def test_evaluation_keeps_the_mode_and_switches_dropout_off(sets: tuple[Set, Set]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 10))
    assert evaluate(network.train(), *sets[1], 100) == evaluate(network.train(), *sets[1], 100)
    assert network.training
    evaluate(network.eval(), *sets[1], 100)
    assert not network.training


def test_a_loss_that_runs_away_is_said(sets: tuple[Set, Set]) -> None:
    network = small_cnn(1, 28, 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e6)
    with pytest.raises(FloatingPointError, match="a smaller learning rate is needed"):
        train_epoch(network, *sets[0], optimizer=optimizer, batch_size=100)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_impossible_batches(sets: tuple[Set, Set], batch_size: int) -> None:
    with pytest.raises(ValueError, match="expected one label per image"):
        evaluate(small_cnn(1, 28, 10), *sets[1], batch_size)
    with pytest.raises(ValueError, match="250 images, 3 labels"):
        evaluate(small_cnn(1, 28, 10), sets[1][0], sets[1][1][:3], 10)
