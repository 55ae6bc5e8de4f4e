"""Refusing a folder that cannot be written before there is anything to lose."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from remora.errors import InvalidInputError

__all__ = ["check_folder"]


def check_folder(field: str, value: str) -> None:
    """Check that files can be written into a folder, which need not exist; nothing stays behind.

    Args:
        field: name of the key, for the message.
        value: the folder as the user gave it.

    Raises:
        InvalidInputError: it is empty, below a file, or nobody may write there.
    """
    allowed = "allowed: a folder that can be written"
    if not value.strip():
        raise InvalidInputError(f"{field} is {value!r}, {allowed}")
    folder = Path(value).absolute()
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InvalidInputError(f"{field} is {value!r}, {allowed}, and {there} is a file")
    try:
        # Permissions do not tell all: the file system may be read-only, or hold no files at all.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = f"{there} cannot be written ({error.strerror or error})"
        raise InvalidInputError(f"{field} is {value!r}, {allowed}, and {reason}") from error
