"""The folder of measurements and how a JSON file gets into it whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

__all__ = [
    "CACHE_FOLDER_VARIABLE",
    "cache_folder",
    "cache_key",
    "read_json",
    "user_cache_folder",
    "write_json",
]

CACHE_FOLDER_VARIABLE = "REMORA_CACHE_DIR"


def cache_folder() -> Path:
    """Return the folder of measurements: ``REMORA_CACHE_DIR`` if set, else the user's cache."""
    override = os.environ.get(CACHE_FOLDER_VARIABLE)
    if override:
        return Path(override)
    return user_cache_folder()


def user_cache_folder() -> Path:
    """Return the user's cache; the one of the XDG standard where platformdirs is missing."""
    try:
        import platformdirs
    except ImportError:
        root = os.environ.get("XDG_CACHE_HOME")
        return (Path(root) if root else Path.home() / ".cache") / "remora"
    return Path(platformdirs.user_cache_dir("remora"))


def cache_key(*parts: object) -> str:
    """Return a short file name for what ``parts`` describe; equal parts give equal names."""
    text = json.dumps([str(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a cached mapping.

    Returns:
        The mapping; None if there is no such file, or if it cannot be read or is not a JSON
        object, which a warning names.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warn_corrupt(path, str(error))
        return None
    if not isinstance(values, dict):
        warn_corrupt(path, f"expected an object, found {type(values).__name__}")
        return None
    return values


def warn_corrupt(path: Path, reason: str) -> None:
    """Say that the cache file at ``path`` is unusable and is measured anew."""
    warnings.warn(
        f"the cache file {path} is unusable ({reason}); measuring anew",
        RuntimeWarning,
        stacklevel=3,
    )


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a mapping under a temporary name and rename it, so that no reader sees half of it.

    Where the system does not let it be written, as on a full disk, a warning says so and the next
    time measures anew.
    """
    try:
        _write_whole(path, values)
    except OSError as error:
        warnings.warn(
            f"the cache file {path} cannot be written ({error.strerror or error}); "
            "the next run measures anew",
            RuntimeWarning,
            stacklevel=2,
        )


def _write_whole(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
