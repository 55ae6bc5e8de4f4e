"""The one-call functions and the closed loop of planning and measuring.

Names are loaded on first use, so that a command that needs one does not pay for the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remora.api.environment import make_env
    from remora.api.fits import Fit, fits
    from remora.api.optimize import optimize
    from remora.api.plan import Plan
    from remora.api.plan_files import load
    from remora.schedule.schedule import Schedule

__all__ = ["Fit", "Plan", "Schedule", "fits", "load", "make_env", "optimize"]

_HOMES = {
    "Fit": "remora.api.fits",
    "Plan": "remora.api.plan",
    "Schedule": "remora.schedule.schedule",
    "fits": "remora.api.fits",
    "load": "remora.api.plan_files",
    "make_env": "remora.api.environment",
    "optimize": "remora.api.optimize",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'remora.api' has no attribute {name!r}")
    # A submodule of the same name must not hide the function.
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
