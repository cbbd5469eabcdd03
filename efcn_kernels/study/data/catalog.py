"""What each published image set consists of: sizes, classes, normalisation, file names, origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from efcn_kernels.study.data.names import CIFAR10_CLASSES, CIFAR100_CLASSES, FASHION_CLASSES

Split = Literal["train", "test"]

# the first labels of the two sets that share their file names: enough to tell a folder of one from the other
_FIRST_LABELS = {
    "mnist": {"train": (5, 0, 4, 1, 9, 2, 1, 3), "test": (7, 2, 1, 0, 4, 1, 4, 9)},
    "fashion-mnist": {"train": (9, 0, 0, 3, 0, 2, 7, 2), "test": (9, 2, 1, 1, 6, 1, 4, 6)},
}

# mean and standard deviation of CIFAR as in the authors' code (d'Ascoli et al. 2019); they serve both sets there
_CIFAR_MEAN, _CIFAR_STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)


@dataclass(frozen=True)
class DatasetSpec:
    """One published image set.

    `folders` are the places inside a data folder where its files may lie, in the order in which they are tried;
    the first one is where a download goes. `downloads` maps a file name at `base_url` to its md5.
    """

    name: str
    layout: Literal["idx", "cifar10", "cifar100"]
    channels: int
    size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_count: int
    test_count: int
    folders: tuple[str, ...]
    base_url: str
    downloads: dict[str, str]

    def count(self, split: Split) -> int:
        """Number of images that the published set has in `split`."""
        return self.train_count if split == "train" else self.test_count

    def mistaken_for(self, split: Split, first_labels: tuple[int, ...]) -> str | None:
        """Name of the other set (of the same file names) that begins with these labels, if there is one."""
        for name, known in _FIRST_LABELS.items():
            if name != self.name and self.layout == "idx" and first_labels[:8] == known[split]:
                return name
        return None


FASHION_MNIST = DatasetSpec(
    name="fashion-mnist",
    layout="idx",
    channels=1,
    size=28,
    classes=FASHION_CLASSES,
    mean=(0.2860,),
    std=(0.3530,),
    train_count=60_000,
    test_count=10_000,
    folders=("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "fashion_mnist", "."),
    base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    downloads={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)

MNIST = DatasetSpec(
    name="mnist",
    layout="idx",
    channels=1,
    size=28,
    classes=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
    train_count=60_000,
    test_count=10_000,
    folders=("mnist", "MNIST/raw", "MNIST", "."),
    base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    downloads={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)

CIFAR10 = DatasetSpec(
    name="cifar10",
    layout="cifar10",
    channels=3,
    size=32,
    classes=CIFAR10_CLASSES,
    mean=_CIFAR_MEAN,
    std=_CIFAR_STD,
    train_count=50_000,
    test_count=10_000,
    folders=("cifar-10-batches-bin", "cifar-10-batches-py", "cifar10/cifar-10-batches-bin", "cifar10/cifar-10-batches-py", "cifar10", "."),
    base_url="https://www.cs.toronto.edu/~kriz/",
    downloads={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
)

CIFAR100 = DatasetSpec(
    name="cifar100",
    layout="cifar100",
    channels=3,
    size=32,
    classes=CIFAR100_CLASSES,
    mean=_CIFAR_MEAN,
    std=_CIFAR_STD,
    train_count=50_000,
    test_count=10_000,
    folders=("cifar-100-binary", "cifar-100-python", "cifar100/cifar-100-binary", "cifar100/cifar-100-python", "cifar100", "."),
    base_url="https://www.cs.toronto.edu/~kriz/",
    downloads={"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
)

CATALOG: dict[str, DatasetSpec] = {spec.name: spec for spec in (FASHION_MNIST, MNIST, CIFAR10, CIFAR100)}
