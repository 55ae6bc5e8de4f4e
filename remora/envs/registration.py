"""The names of the environments in Gymnasium's registry."""

from __future__ import annotations

import gymnasium

__all__ = ["JOINT_ENV_ID", "SCHEDULE_ENV_ID", "register"]

SCHEDULE_ENV_ID = "remora/Schedule-v0"
JOINT_ENV_ID = "remora/JointSchedule-v0"

_ENTRY_POINTS = {
    SCHEDULE_ENV_ID: "remora.api:make_env",
    JOINT_ENV_ID: "remora.api.joint_environment:make_joint_env",
}


def register() -> None:
    """Register the environments once; a second call changes nothing."""
    for name, entry_point in _ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=entry_point)
