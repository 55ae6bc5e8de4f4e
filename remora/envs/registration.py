"""The name of the environment in Gymnasium's registry."""

from __future__ import annotations

import gymnasium

__all__ = ["SCHEDULE_ENV_ID", "register"]

SCHEDULE_ENV_ID = "remora/Schedule-v0"

_ENTRY_POINT = "remora.api:make_env"


def register() -> None:
    """Register the environment once; a second call changes nothing."""
    if SCHEDULE_ENV_ID not in gymnasium.registry:
        gymnasium.register(SCHEDULE_ENV_ID, entry_point=_ENTRY_POINT)
