"""Compiled functions of this folder; their cache is theirs alone as long as no file changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba.core import config as numba_config

from remora.hardware.cache import user_cache_folder
from remora.simulator.compiled.jit import kernel as simulator_kernel

__all__ = ["is_compiled", "kernel", "note_compiled"]

_CONFIG: Any = numba_config
_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that makes no arrays; what it needs is handed in."""
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = _cache_folder(before)
    try:
        return simulator_kernel(function)
    finally:
        _CONFIG.CACHE_DIR = before


@cache
def _cache_folder(given: str) -> str:
    """A folder for this version of the files here, whose kernels call each other.

    Args:
        given: numba's own setting; empty if there is none.
    """
    here = Path(__file__).parent
    version = hashlib.sha256()
    for file in sorted(here.glob("*.py")):
        version.update(file.read_bytes())
    if given:
        root = Path(given)
    elif os.access(here, os.W_OK):
        root = here / "__pycache__"
    else:
        root = user_cache_folder()
    return str(root / f"joint-{version.hexdigest()[:12]}")


def is_compiled() -> bool:
    """Whether the kernels of this version were compiled before; else that takes a minute."""
    return _marker().exists()


def note_compiled() -> None:
    """Remember that all kernels are in the cache; without effect where that cannot be written."""
    with suppress(OSError):
        _marker().parent.mkdir(parents=True, exist_ok=True)
        _marker().touch()


def _marker() -> Path:
    return Path(_cache_folder(_CONFIG.CACHE_DIR)) / "complete"
