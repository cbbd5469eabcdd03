"""What a study does: a TOML file, checked key by key; every default is the protocol of d'Ascoli et al. 2019."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from efcn_kernels.study.data.sets import NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# a TOML array is a list, which strict validation would not take for a tuple
_Ints = Annotated[tuple[int, ...], Field(strict=False)]
_Words = Annotated[tuple[str, ...], Field(strict=False)]
_Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ConfigError(ValueError):
    """The configuration cannot be used; the message names every key at fault and what it could be."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(_Section):
    """Which images: a name of `study.data`, the folder where they lie, and how many of the first are used (all if not given)."""

    name: str = "cifar10"
    folder: str | None = None
    train_images: Annotated[int, Field(ge=1)] | None = None
    test_images: Annotated[int, Field(ge=1)] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMES:
            raise ValueError(f"expected one of {', '.join(NAMES)}{_hint(name, NAMES)}")
        return name


class Network(_Section):
    """Which CNN of `study.models`."""

    name: Literal["skinny", "alexnet", "small"] = "skinny"


class Training(_Section):
    """Plain SGD: learning rate, momentum, weight decay."""

    learning_rate: _Rate = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: _Rate = 0.0


class CNN(Training):
    """The CNN's own training, in epochs and images per batch; the batch size holds for every network."""

    epochs: Annotated[int, Field(ge=1)] = 150
    batch_size: Annotated[int, Field(ge=1)] = 250


class Relax(Training):
    """What goes on from the CNN, when and how.

    times: epochs of the CNN, or "paper": 0 and 20 points evenly spaced in the logarithm, rounded.
    followers: "eLCN", "eFCN", "halo-R" with R pixels. controls: "CNN" goes on from each snapshot as the followers do, "FCN" starts from the
    default initialisation, "FCN-norms" from the norms of each eFCN.
    epochs: of each of them. off_local_*: of the off-local weights, as the others where not given; `start` is the standard deviation of
    their random start; they are refused where no network has such weights. optimizer_state: of the snapshot, "carry" it through the mapping
    or "reset" it.
    """

    times: _Ints | Literal["paper"] = "paper"
    followers: _Words = ("eFCN",)
    controls: Annotated[tuple[Literal["CNN", "FCN", "FCN-norms"], ...], Field(strict=False)] = ("FCN",)
    epochs: Annotated[int, Field(ge=1)] = 100
    off_local_learning_rate: _Rate | None = None
    off_local_weight_decay: _Rate | None = None
    off_local_start: _Rate = 0.0
    optimizer_state: Literal["carry", "reset"] = "reset"

    @model_validator(mode="after")
    def _used(self) -> Relax:
        settings = ("off_local_learning_rate", "off_local_weight_decay", "off_local_start")
        given = [f"relax.{name} = {value}" for name in settings if (value := getattr(self, name)) != Relax.model_fields[name].default]
        if given and set(self.followers) <= {"eLCN"} and not {"FCN", "FCN-norms"} & set(self.controls):
            raise ValueError(f"{', '.join(given)}, but no network has off-local weights: relax.followers = {list(self.followers)}")
        return self

    @field_validator("times")
    @classmethod
    def _ascending(cls, times: Any) -> Any:
        if times != "paper" and (not times or list(times) != sorted(set(times)) or times[0] < 0):
            raise ValueError("expected ascending epochs from 0 on, at least one")
        return times

    @field_validator("followers")
    @classmethod
    def _supports(cls, followers: tuple[str, ...]) -> tuple[str, ...]:
        for name in followers:
            if name not in ("eLCN", "eFCN") and not (name.startswith("halo-") and name[5:].isdecimal() and int(name[5:]) > 0):
                raise ValueError(f"{name!r} is none of 'eLCN', 'eFCN', 'halo-1', 'halo-2', ...{_hint(name, ('eLCN', 'eFCN', 'halo-1'))}")
        return followers

    @field_validator("followers", "controls")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("expected each name once")
        return names


class Measure(_Section):
    """What is measured besides loss and accuracy.

    every: epochs between masked accuracies, margins and the nearest CNN's accuracy (also at both ends). singular_values: how many of each
    layer, at the end. paths: interpolations at the "middle" relax time, at "all" or "none", on `path_images` images of each set, the string
    after so many steps.
    """

    every: Annotated[int, Field(ge=1)] = 10
    singular_values: Annotated[int, Field(ge=0)] = 8
    paths: Literal["middle", "all", "none"] = "middle"
    path_images: Annotated[int, Field(ge=1)] = 2000
    string_steps: Annotated[int, Field(ge=0)] = 30


class Run(_Section):
    """How it is run: seeds; processes at a time and threads of each (together all cores if not given); "cpu", "cuda" or "auto".

    checkpoint_seconds: at most so much is computed again after a crash.
    """

    seeds: _Ints = (0,)
    processes: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: _Rate = 60.0

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("expected different numbers from 0 on, at least one")
        return seeds


class Config(_Section):
    """All of a study. Raises ConfigError through `load`, pydantic's ValidationError otherwise."""

    data: Data = Data()
    network: Network = Network()
    cnn: CNN = CNN()
    relax: Relax = Relax()
    measure: Measure = Measure()
    run: Run = Run()

    @model_validator(mode="after")
    def _reachable(self) -> Config:
        if late := [time for time in self.times if time > self.cnn.epochs]:
            raise ValueError(f"relax.times {late} lie beyond the CNN's cnn.epochs = {self.cnn.epochs}")
        return self

    @property
    def times(self) -> tuple[int, ...]:
        """The relax times in epochs since the CNN's initialisation."""
        return paper_times(self.cnn.epochs) if self.relax.times == "paper" else self.relax.times

    def toml(self) -> str:
        """As a file that `load` reads; what is not given is left out."""
        parts = []
        for name, section in self.model_dump(mode="json", exclude_none=True).items():
            # JSON's strings, numbers, booleans and arrays are TOML's too
            parts.append("\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items()), ""]))
        return "\n".join(parts)


def paper_times(epochs: int) -> tuple[int, ...]:
    """unique(int(logspace(0, log10(epochs), 20))) with 0 in front, as in the authors' code."""
    return (0, *np.unique(np.logspace(0, np.log10(epochs), 20).round(9).astype(int)).tolist())


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in the TOML file `path`, with `overrides` such as "relax.epochs=5". Raises ConfigError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _set(content, override)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explained(entry) for entry in _meant(error.errors()))) from error


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"--set takes section.key=value such as relax.epochs=5, got {override!r}")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # a bare word
        value = text.strip()
    part = content.setdefault(section, {})
    if not isinstance(part, dict):
        raise ConfigError(f"{section} is {part!r}: expected a section [{section}]")
    part[name] = value


def _meant(entries: Sequence[Any]) -> list[Any]:
    """Without what only says of a list that a word could stand there too, or of a word that it is no list."""
    alternatives = {entry["loc"][:2] for entry in entries if entry["type"] == "literal_error"}
    found = []
    for entry in entries:
        listed, worded = isinstance(entry["input"], list), isinstance(entry["input"], str)
        beside = entry["type"] == "literal_error" if listed else entry["type"] == "tuple_type" and worded and entry["loc"][:2] in alternatives
        if not beside:
            found.append(entry)
    return found or list(entries)


def _explained(entry: Any) -> str:
    where = [str(part) for part in entry["loc"]]
    # pydantic names the alternative of a union that it tried
    place = ".".join(part for part in where if "[" not in part and part not in ("int", "float", "str"))
    if entry["type"] == "extra_forbidden":
        section = Config if len(where) == 1 else Config.model_fields[where[0]].annotation
        known = list(getattr(section, "model_fields", {}))
        hint = _hint(where[-1], known)
        return f"unknown {'section' if len(where) == 1 else 'key'} {place!r}{hint or ', expected one of ' + ', '.join(known)}"
    message = str(entry["msg"]).removeprefix("Value error, ").replace("a valid tuple", "a list in brackets")
    # of several keys of a section, which the message names
    several = entry["type"] == "value_error" and isinstance(entry["input"], dict)
    return message if several else f"{place} = {entry['input']!r}: {message[0].lower() + message[1:]}"


def _hint(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    return "" if not near else f", did you mean {next(name for name in known if name.lower() == near[0])!r}?"
