"""The trackers by name; a tracker is imported when it is created."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from remora.errors import UnknownNameError
from remora.tracking.tracker import Tracker

__all__ = ["TRACKERS", "create"]

TRACKERS: Mapping[str, str] = {
    "csv": "remora.tracking.csv_tracker:CsvTracker",
    "none": "remora.tracking.none_tracker:NoneTracker",
    "tensorboard": "remora.tracking.tensorboard_tracker:TensorboardTracker",
    "wandb": "remora.tracking.wandb_tracker:WandbTracker",
}


def create(name: str, **values: Any) -> Tracker:
    """Make a tracker that is not started yet.

    Args:
        name: a key of ``TRACKERS``.
        **values: arguments of its class, as they stand in ``conf/tracker``.

    Raises:
        UnknownNameError: no such tracker, or it takes no such value.
    """
    if name not in TRACKERS:
        raise UnknownNameError("tracker", name, TRACKERS)
    module, _, attribute = TRACKERS[name].partition(":")
    factory = getattr(import_module(module), attribute)
    allowed = inspect.signature(factory).parameters
    for key in values:
        if key not in allowed:
            raise UnknownNameError(f"value of tracker {name}", key, allowed)
    return cast("Tracker", factory(**values))
