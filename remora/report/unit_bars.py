"""A bar for every unit: what it would keep, in the colour of what happens to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from remora.report.unit_choice import UnitChoice
from remora.report.wording import bytes_scale, bytes_text

__all__ = ["full_bytes", "looks_of", "unit_bars"]

_LOOKS = {
    "keep": ("stays on the device", "#56B4E9", ""),
    "recompute": ("is computed again", "#E69F00", "/"),
    "offload": ("waits on the host", "#AA4499", "x"),
    "mixed": ("is treated in several ways", "#009E73", ""),
}
_WIDTH = 0.85


def looks_of(choices: Sequence[UnitChoice]) -> Iterator[tuple[str, str, str, list[int]]]:
    """Yield name, colour, hatch, and the units treated so, for every way that occurs."""
    for family, look in _LOOKS.items():
        places = [i for i, choice in enumerate(choices) if _family(choice) == family]
        if places:
            yield (*look, places)


def full_bytes(choice: UnitChoice) -> int:
    """Bytes that a unit holds if all is kept."""
    return next((a.held_bytes for a in choice.alternatives if a.family == "keep"), 0)


def unit_bars(choices: Sequence[UnitChoice], what: str) -> dict[str, Any] | None:
    """Return the picture's data for Plotly; None where no unit keeps anything.

    Args:
        choices: all units.
        what: the bytes that the bars stand for, in words.
    """
    highest = max(map(full_bytes, choices), default=0)
    if not highest:
        return None
    size, unit = bytes_scale(highest)
    looks = list(looks_of(choices))
    layout = {
        "barmode": "overlay",
        "margin": {"l": 92, "r": 16, "t": 12, "b": 42},
        "xaxis": {"title": {"text": "unit", "standoff": 6}, "range": [-0.6, len(choices) - 0.4]},
        "yaxis": {"title": {"text": f"{what} ({unit})"}, "fixedrange": True},
    }
    return {
        "height": 230,
        "legend": [
            {"id": f"bar-{i}", "name": name, "colour": colour, "hatched": bool(hatch)}
            for i, (name, colour, hatch, _) in enumerate(looks)
        ],
        "traces": [
            _bars([choices[i] for i in places], size, colour, hatch)
            for _, colour, hatch, places in looks
        ],
        "layout": layout,
    }


def _bars(choices: Sequence[UnitChoice], size: float, colour: str, hatch: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "width": _WIDTH,
        "x": [choice.index for choice in choices],
        "y": [round(full_bytes(choice) / size, 4) for choice in choices],
        "text": [_hover(choice) for choice in choices],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": colour,
            "pattern": {
                "shape": hatch,
                "fgcolor": "#ffffff",
                "bgcolor": colour,
                "size": 6,
                "solidity": 0.25,
            },
        },
    }


def _family(choice: UnitChoice) -> str:
    taken = choice.taken
    return "keep" if taken is None else taken.family


def _hover(choice: UnitChoice) -> str:
    taken = choice.taken
    left = "" if taken is None else f"<br>{bytes_text(taken.held_bytes)} held"
    name = escape(choice.name or "(start)")
    return (
        f"<b>unit {choice.index}: {name}</b><br>{escape(choice.action)}<br>"
        f"{bytes_text(full_bytes(choice))} if all is kept{left}"
    )
