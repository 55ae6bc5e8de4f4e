"""How the kernels are compiled, and where the compiled code is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.core import config as numba_config

from remora.hardware.cache import user_cache_folder

__all__ = ["cache_folder", "kernel"]

_CONFIG: Any = numba_config
_P = ParamSpec("_P")
_R = TypeVar("_R")

# Numba counts references to every array in the tuples that kernels pass around, which takes ten
# times as long as the kernels themselves; they allocate nothing, so nothing need be counted.
_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False}


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that makes no arrays; what it needs is handed in."""
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = cache_folder(Path(__file__).parent, "kernels", before)
    try:
        compiled: Callable[_P, _R] = njit(**_OPTIONS)(function)
    finally:
        _CONFIG.CACHE_DIR = before
    return compiled


@cache
def cache_folder(folder: Path, name: str, given: str) -> str:
    """Where the compiled code of this version of all kernels of a folder is kept.

    Numba looks only at the file of a function to tell whether its compiled code is up to date, but
    that code holds the kernels of other files that it calls.

    Args:
        folder: of the kernels.
        name: begins the name of what is returned.
        given: numba's own setting; empty if there is none.
    """
    version = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        version.update(file.read_bytes())
    if given:
        root = Path(given)
    elif os.access(folder, os.W_OK):
        root = folder / "__pycache__"
    else:
        root = user_cache_folder()
    return str(root / f"{name}-{version.hexdigest()[:12]}")
