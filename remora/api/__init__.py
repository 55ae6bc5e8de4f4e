"""The one-call functions and the closed loop of planning and measuring.

Names are loaded on first use, so that a command that needs one does not pay for the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remora.api.fitting import Fit, fits
    from remora.api.joint_environment import make_env
    from remora.api.plan import Plan
    from remora.api.plan_files import load
    from remora.api.planning import optimize
    from remora.api.replanning import replan
    from remora.schedule.schedule import Schedule

__all__ = ["Fit", "Plan", "Schedule", "fits", "load", "make_env", "optimize", "replan"]

_HOMES = {
    "Fit": "remora.api.fitting",
    "Plan": "remora.api.plan",
    "Schedule": "remora.schedule.schedule",
    "fits": "remora.api.fitting",
    "load": "remora.api.plan_files",
    "make_env": "remora.api.joint_environment",
    "optimize": "remora.api.planning",
    "replan": "remora.api.replanning",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'remora.api' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
