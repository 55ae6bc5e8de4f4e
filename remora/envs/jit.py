"""Compiled functions of this folder; their cache is theirs alone as long as no file changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba.core import config as numba_config

from remora.simulator.compiled.jit import cache_folder
from remora.simulator.compiled.jit import kernel as simulator_kernel

__all__ = ["is_compiled", "kernel", "note_compiled"]

_CONFIG: Any = numba_config
_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that makes no arrays; what it needs is handed in."""
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = _folder(before)
    try:
        return simulator_kernel(function)
    finally:
        _CONFIG.CACHE_DIR = before


def _folder(given: str) -> str:
    return cache_folder(Path(__file__).parent, "joint", given)


def is_compiled() -> bool:
    """Whether the kernels of this version were compiled before; else that takes a minute."""
    return _marker().exists()


def note_compiled() -> None:
    """Remember that all kernels are in the cache; without effect where that cannot be written."""
    with suppress(OSError):
        _marker().parent.mkdir(parents=True, exist_ok=True)
        _marker().touch()


def _marker() -> Path:
    return Path(_folder(_CONFIG.CACHE_DIR)) / "complete"
