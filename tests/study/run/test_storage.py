"""Files are whole at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from efcn_kernels.study.run.storage import StorageError, write_whole


def test_a_file_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_whole(path, b"one")
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        write(self, content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"cannot write .*result\.json: No space left on device; what was written before is kept"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
