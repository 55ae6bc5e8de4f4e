"""Files that appear whole or not at all, and JSON files that say what is wrong with them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remora.errors import FileFormatError, UsageError

__all__ = ["read_json", "read_text", "write_bytes", "write_json", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, values: Mapping[str, Any], compact: bool = False) -> None:
    """Write a mapping as JSON; see :func:`write_bytes`.

    Args:
        path: where the file shall be.
        values: its content.
        compact: all on one line, for files that only programs read.
    """
    text = json.dumps(values, separators=(",", ":")) if compact else json.dumps(values, indent=1)
    write_text(path, text + "\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside ``path`` and rename it.

    An interruption at any moment leaves the old file or the new one, and no temporary file.
    Missing folders are made.

    Args:
        path: where the file shall be.
        content: all of it.

    Raises:
        UsageError: the system does not let the file be written, as where the disk is full.
    """
    try:
        _write_whole(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{path} cannot be written: {reason}") from error


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes files for the owner alone; results are ordinary files.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_text(path: Path, what: str) -> str:
    """Read a text file.

    Args:
        path: the file.
        what: what it should be, for the message, for example ``"schedule"``.

    Raises:
        FileFormatError: there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileFormatError(f"there is no {what} file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"the {what} file {path} cannot be read: {error}") from error


def read_json(path: Path, what: str, version: int) -> dict[str, Any]:
    """Read a JSON object with a ``version`` field.

    Args:
        path: the file.
        what: what it should be, for the message.
        version: the newest version that can be read.

    Raises:
        FileFormatError: missing, cut short, not an object, or of another version.
    """
    text = read_text(path, what)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"the {what} file {path} is cut short or no JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileFormatError(f"the {what} file {path} holds no JSON object")
    found = values.get("version")
    if found != version:
        raise FileFormatError(
            f"the {what} file {path} has version {found!r}; this Remora reads version {version}"
        )
    return values


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
