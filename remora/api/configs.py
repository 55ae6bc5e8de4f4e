"""The values under ``remora/conf``, read without Hydra for the functions of the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from remora.errors import UnknownNameError

__all__ = ["config_names", "load_config"]


def config_names(group: str) -> tuple[str, ...]:
    """Return the names of a group such as ``model`` or ``hardware``, sorted."""
    folder = files("remora.conf").joinpath(group)
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_config(group: str, name: str) -> Mapping[str, Any]:
    """Return the values of one file.

    Args:
        group: folder in ``remora/conf``.
        name: file name without its ending.

    Raises:
        UnknownNameError: there is no such file; the message names the closest ones.
    """
    import yaml

    names = config_names(group)
    if name not in names:
        raise UnknownNameError(group, name, names)
    text = files("remora.conf").joinpath(group, f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert isinstance(values, dict)
    return values
