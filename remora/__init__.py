"""Remora: rematerialization, offload and pipeline schedules for PyTorch training.

The public functions are loaded on first use, so that ``import remora`` stays fast::

    plan = remora.optimize(model, example_inputs, memory="8GiB")
    handle = plan.apply(model)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from remora.errors import RemoraError

if TYPE_CHECKING:
    from remora.api import Plan, Schedule, fits, load, make_env, optimize, replan

__all__ = [
    "Plan",
    "RemoraError",
    "Schedule",
    "__version__",
    "fits",
    "load",
    "make_env",
    "optimize",
    "replan",
]

__version__ = "0.1.0"

_LAZY_NAMES = frozenset({"Plan", "Schedule", "fits", "load", "make_env", "optimize", "replan"})


def __getattr__(name: str) -> Any:
    """Load a public name from ``remora.api`` on first use.

    Raises:
        AttributeError: ``name`` is not part of the public API.
    """
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module 'remora' has no attribute {name!r}")
    return getattr(import_module("remora.api"), name)


def __dir__() -> list[str]:
    """List the public names, also those not loaded yet."""
    return sorted(__all__)
