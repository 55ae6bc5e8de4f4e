"""One palette for every picture: the eight colours of Okabe and Ito, told apart by all eyes."""

from __future__ import annotations

from collections.abc import Mapping

from remora.schedule.program import InstructionKind, MemoryKind

__all__ = ["BUDGET_COLOUR", "INSTRUCTION_COLOURS", "MEMORY_COLOURS"]

_ORANGE = "#E69F00"
_SKY = "#56B4E9"
_GREEN = "#009E73"
_YELLOW = "#F0E442"
_BLUE = "#0072B2"
_RED = "#D55E00"
_PINK = "#CC79A7"
_GREY = "#999999"

BUDGET_COLOUR = "#000000"

INSTRUCTION_COLOURS: Mapping[InstructionKind, str] = {
    InstructionKind.FORWARD: _SKY,
    InstructionKind.RECOMPUTE: _ORANGE,
    InstructionKind.BACKWARD: _BLUE,
    InstructionKind.OFFLOAD: _PINK,
    InstructionKind.PREFETCH: _GREEN,
    InstructionKind.OPTIMIZER: _GREY,
}

MEMORY_COLOURS: Mapping[MemoryKind, str] = {
    MemoryKind.WEIGHTS: _GREY,
    MemoryKind.BATCH: _YELLOW,
    MemoryKind.OPTIMIZER: _PINK,
    MemoryKind.GRADIENTS: _BLUE,
    MemoryKind.SAVED: _SKY,
    MemoryKind.BOUNDARY: _GREEN,
    MemoryKind.WORKSPACE: _RED,
}
