"""Files that are whole at every moment: written beside their place, flushed to the disk, then put there in one step."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


class StorageError(OSError):
    """The disk does not take what is written; the message says which file and why."""


class DamagedError(ValueError):
    """A file is not what was written; the message says which."""


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, or leave what is there. Raises StorageError."""
    _placed(path, lambda part: part.write_bytes(content), None)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], previous: Path | None = None) -> None:
    """Put tensors and facts (JSON) at `path` as safetensors, checksum included; what was there moves to `previous`. Raises StorageError."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    metadata = {"facts": text, "sha256": _digest(plain, text)}

    def write(part: Path) -> None:
        try:
            save_file(plain, part, metadata)
        except SafetensorError as error:
            raise OSError(0, str(error)) from error

    _placed(path, write, previous)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` put there. Raises DamagedError for a truncated or changed file, FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _digest(tensors, metadata["facts"]) != metadata["sha256"]:
            raise DamagedError(f"{path} is damaged: its checksum does not fit")
        facts: dict[str, Any] = json.loads(metadata["facts"])
    except (SafetensorError, KeyError, OSError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    return tensors, facts


def flush(path: Path) -> None:
    """Make the entries of a folder, or the content of a file, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _placed(path: Path, write: Callable[[Path], Any], previous: Path | None) -> None:
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        write(part)
        flush(part)
        if previous is not None and path.exists():
            path.replace(previous)
        part.replace(path)
        flush(path.parent)
    except OSError as error:
        # the space that the unfinished file takes may be what the next try needs
        part.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}; what was written before is kept") from error


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
