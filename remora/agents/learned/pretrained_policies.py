"""Policies that ship with the package."""

from __future__ import annotations

from pathlib import Path

from remora.errors import UnknownNameError

__all__ = ["pretrained_names", "pretrained_path"]

_PRETRAINED = Path(__file__).parent / "pretrained"


def pretrained_names() -> tuple[str, ...]:
    """Names of the policies that ship with the package, sorted."""
    return tuple(sorted(path.parent.name for path in _PRETRAINED.glob("*/card.json")))


def pretrained_path(name: str) -> Path:
    """Folder of a policy that ships with the package.

    Raises:
        UnknownNameError: none has that name.
    """
    if name not in pretrained_names():
        raise UnknownNameError("pretrained policy", name, pretrained_names())
    return _PRETRAINED / name
