"""Plans inside the training loops of other libraries; each is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remora.api.loops.lightning_callback import RemoraLightningCallback
    from remora.api.loops.transformers_callback import RemoraCallback

__all__ = ["RemoraCallback", "RemoraLightningCallback"]

_HOMES = {
    "RemoraCallback": "remora.api.loops.transformers_callback",
    "RemoraLightningCallback": "remora.api.loops.lightning_callback",
}


def __getattr__(name: str) -> Any:
    """Load a callback, and its library with it, on first use.

    Raises:
        AttributeError: there is no such name.
        MissingExtraError: the library is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'remora.api.loops' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
