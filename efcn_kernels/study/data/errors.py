"""What can go wrong with a data set on disk."""

from __future__ import annotations

from pathlib import Path


class DataError(ValueError):
    """A data file is not what it should be; the message names the file, what was found and what would be right."""

    @classmethod
    def of(cls, path: Path, found: str, expected: str) -> DataError:
        """The error for one file, in the one form that all readers use."""
        return cls(f"{path}: found {found}; expected {expected}")


class MissingDataError(DataError):
    """The files of a data set are nowhere and could not be downloaded; the message says what to put where."""
