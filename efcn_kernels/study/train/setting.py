"""What the tasks of a study share in one process: images, networks, optimizers."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efcn_kernels import EFCNSGD
from efcn_kernels.mapping import parameter_groups
from efcn_kernels.study import models
from efcn_kernels.study.config import CNN, Config, Relax
from efcn_kernels.study.data.sets import ImageData, load

_MODELS = {"skinny": models.skinny_cnn, "alexnet": models.alexnet, "small": models.small_cnn}


@dataclass(frozen=True, eq=False)
class Setting:
    """Normalised images on the device of a study, and what is built for them."""

    config: Config
    device: torch.device
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    shape: tuple[int, int, int]
    classes: int

    @classmethod
    def of(cls, config: Config) -> Setting:
        """Load the images of `config`. Raises DataError."""
        data, device = load_data(config), torch.device(device_of(config))
        train = data.normalised("train").to(device), data.train_labels.to(device)
        test = data.normalised("test").to(device), data.test_labels.to(device)
        return cls(config, device, train, test, (data.channels, *data.size), len(data.classes))

    @property
    def batch_size(self) -> int:
        """Images in a step, of every network."""
        return self.config.cnn.batch_size

    @property
    def example(self) -> Tensor:
        """Two images: enough to map a network."""
        return self.train[0][:2]

    def cnn(self) -> nn.Sequential:
        """A CNN as the global generator makes it."""
        channels, *size = self.shape
        network = _MODELS[self.config.network.name](channels, (size[0], size[1]), self.classes)
        # the Skinny CNN's step: 0.72 of that in torch's default order (Zen 4, one thread)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.to(self.device)

    def optimizer(self, network: nn.Module, how: CNN | Relax, fused: bool = True) -> EFCNSGD:
        """SGD by one section of the configuration. fused: as in EFCNSGD, on the CPU."""
        off = (how.off_local_learning_rate, how.off_local_weight_decay) if isinstance(how, Relax) else (None, None)
        groups = parameter_groups(network, how.learning_rate, how.weight_decay, *off)
        return EFCNSGD(groups, momentum=how.momentum, fused=fused and self.device.type == "cpu")


def device_of(config: Config) -> str:
    """The device that the configuration asks for; "auto" is a GPU where there is one."""
    if config.run.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.run.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("run.device = 'cuda', but torch sees no GPU here: expected 'cpu' or 'auto'")
    return config.run.device


def load_data(config: Config, download: bool = False) -> ImageData:
    """The images that the configuration names. Raises DataError, ValueError where it asks for more than there are."""
    wanted = config.data
    data = load(wanted.name, wanted.folder, download=download)
    for name, count, there in (
        ("train_images", wanted.train_images, len(data.train_labels)),
        ("test_images", wanted.test_images, len(data.test_labels)),
    ):
        if count is not None and count > there:
            raise ValueError(f"data.{name} = {count}, but {data.name} has {there}")
    return data.first(wanted.train_images or len(data.train_labels), wanted.test_images or len(data.test_labels))


def seed_of(seed: int, start: int) -> int:
    """The seed of what starts at `start`: the same for all networks from one snapshot, so that they drop out the same units."""
    return zlib.crc32(f"{seed} {start}".encode())
