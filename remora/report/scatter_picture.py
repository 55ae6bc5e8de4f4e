"""Predicted over measured figures as PNG files, and how far bounds stand above what came."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Points", "bounds_png", "scatter_png"]

_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#222222",
    "#999999",
)
_MARKERS = "osD^vPX*"
_SIZE = (6.2, 5.4)


@dataclass(frozen=True)
class Points:
    """Figures to draw.

    Attributes:
        groups: name of the group of every point; groups differ by colour and marker.  # [n]
        measured: above 0.  # [n]
        predicted: above 0.  # [n]
    """

    groups: tuple[str, ...]
    measured: tuple[float, ...]
    predicted: tuple[float, ...]


def scatter_png(points: Points, label: str) -> bytes:
    """Draw predicted over measured on logarithmic axes, with the line where both are equal.

    Args:
        points: what to draw; none gives empty axes.
        label: what is predicted, with its unit.

    Returns:
        The PNG file.
    """
    figure, axes = _axes()
    for name, colour, marker, places in _by_group(points):
        x = [points.measured[place] for place in places]
        y = [points.predicted[place] for place in places]
        axes.scatter(x, y, s=14, c=colour, marker=marker, label=name, linewidths=0, alpha=0.7)
    if points.measured:
        ends = [min(points.measured), max(points.measured)]
        axes.plot(ends, ends, color="#222222", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend(fontsize=8)
    axes.set_xlabel(f"measured {label}")
    axes.set_ylabel(f"predicted {label}")
    return _png(figure)


def bounds_png(points: Points) -> bytes:
    """Draw by how much bounds stand above measured figures, in order; below 0 one was broken.

    Args:
        points: measured figures and the bounds on them.

    Returns:
        The PNG file.
    """
    figure, axes = _axes()
    margins = [b / m - 1 for b, m in zip(points.predicted, points.measured, strict=True)]
    rank = {
        place: i for i, place in enumerate(sorted(range(len(margins)), key=margins.__getitem__))
    }
    for name, colour, marker, places in _by_group(points):
        x = [(rank[place] + 1) / len(margins) for place in places]
        y = [100 * margins[place] for place in places]
        axes.scatter(x, y, s=14, c=colour, marker=marker, label=name, linewidths=0)
    axes.axhline(0.0, color="#222222", linewidth=0.8)
    if margins:
        axes.legend(fontsize=8)
    axes.set_xlabel("share of the steps")
    axes.set_ylabel("bound above the measured peak, %")
    return _png(figure)


def _by_group(points: Points) -> list[tuple[str, str, str, Sequence[int]]]:
    found: list[tuple[str, str, str, Sequence[int]]] = []
    for number, name in enumerate(sorted(set(points.groups))):
        places = [place for place, group in enumerate(points.groups) if group == name]
        colour = _COLOURS[number % len(_COLOURS)]
        found.append((name, colour, _MARKERS[number % len(_MARKERS)], places))
    return found


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(linewidth=0.3)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
