"""Matplotlib figures as bytes of files."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["FORMS", "new_figure", "rendered"]

FORMS = ("png", "svg", "pdf")


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches."""
    # Without pyplot there is no global state and no need for a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def rendered(figure: Any, form: str) -> bytes:
    """Return a figure as a file of one of :data:`FORMS`."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Neither dates nor random names, so that equal pictures are equal files.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "remora"}):
        figure.savefig(buffer, format=form, dpi=130, metadata=dates.get(form))
    return buffer.getvalue()
