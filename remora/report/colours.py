"""The palette of every picture, chosen to be told apart by all eyes.

Most colours are those of Okabe and Ito; where these do not suffice, darker or lighter ones of the
same kind join. Within each group of kinds that share a row or a stack, every pair stays apart
under normal, red-blind, green-blind and blue-blind vision. Row names, legends and hatches say the
same as the colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from remora.schedule.program import InstructionKind, MemoryKind

__all__ = [
    "BUDGET_COLOUR",
    "DARK_COLOURS",
    "IDLE_COLOUR",
    "INSTRUCTION_STYLES",
    "MEMORY_COLOURS",
    "Style",
    "text_colour",
]

_ORANGE = "#E69F00"
_SKY = "#56B4E9"
_YELLOW = "#F0E442"
_BLUE = "#0072B2"
_RED = "#D55E00"
_GREY = "#999999"
_DARK_GREEN = "#00563F"
_PURPLE = "#5B2A86"
_INK = "#222222"
_MINT = "#88FFEE"

BUDGET_COLOUR = "#000000"
IDLE_COLOUR = "#F2F2F2"


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind of instruction is filled; hatched ones move weights, gradients or caches."""

    colour: str
    hatched: bool = False


INSTRUCTION_STYLES: Mapping[InstructionKind, Style] = {
    InstructionKind.FORWARD: Style(_SKY),
    InstructionKind.RESTORE: Style(_YELLOW),
    InstructionKind.RECOMPUTE: Style(_ORANGE),
    InstructionKind.BACKWARD: Style(_BLUE),
    InstructionKind.BACKWARD_INPUT: Style(_DARK_GREEN),
    InstructionKind.BACKWARD_WEIGHT: Style(_RED),
    InstructionKind.OPTIMIZER: Style(_GREY),
    InstructionKind.OFFLOAD: Style("#AA4499"),
    InstructionKind.STORE_GRADIENTS: Style("#DDA0D3", hatched=True),
    InstructionKind.PREFETCH: Style("#117733"),
    InstructionKind.LOAD_WEIGHTS: Style("#8CC69B", hatched=True),
    InstructionKind.STORE_CACHE: Style(_MINT, hatched=True),
    InstructionKind.SEND: Style("#000000"),
    InstructionKind.RECEIVE: Style("#BBBBBB"),
    InstructionKind.GATHER_WEIGHTS: Style("#332288"),
    InstructionKind.REDUCE_GRADIENTS: Style("#9C92C8", hatched=True),
    InstructionKind.SHARE_LAYERS: Style("#882255"),
}

MEMORY_COLOURS: Mapping[MemoryKind, str] = {
    MemoryKind.WEIGHTS: _GREY,
    MemoryKind.CACHE: _MINT,
    MemoryKind.BATCH: _YELLOW,
    MemoryKind.OPTIMIZER: _PURPLE,
    MemoryKind.GRADIENTS: _BLUE,
    MemoryKind.SAVED: _SKY,
    MemoryKind.BOUNDARY: _DARK_GREEN,
    MemoryKind.RECEIVE: _ORANGE,
    MemoryKind.IN_FLIGHT: _INK,
    MemoryKind.WORKSPACE: _RED,
}

DARK_COLOURS: Mapping[InstructionKind | MemoryKind, str] = {
    InstructionKind.SEND: "#FFFFFF",
    MemoryKind.IN_FLIGHT: "#BB33FF",
}
"""What stands for nearly black colours on a dark ground."""


def text_colour(background: str) -> str:
    """Return black or white, whichever is easier to read on ``background`` (``#RRGGBB``)."""
    red, green, blue = (int(background[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "#FFFFFF"
