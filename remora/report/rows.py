"""The rows of a pipeline picture: each rank's compute, and thin rows for what runs beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remora.schedule.program import Stream

__all__ = ["StreamRow", "layout_height", "stream_rows"]

COMPUTE_HEIGHT = 1.0
THIN_HEIGHT = 0.3
GAP = 0.25
"""Space between two ranks, in heights of a compute row."""

_WORDS = {
    Stream.D2H: "to host",
    Stream.H2D: "from host",
    Stream.SEND: "send",
    Stream.RECV: "receive",
    Stream.COLLECTIVE: "collective",
    Stream.TENSOR: "shared layers",
}


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One row of the picture; the unit of length is the height of a compute row.

    Attributes:
        rank, stream: whose.
        top: distance from the top of the picture.
        height: of the row.
        label: ``rank 0`` for compute, what it carries for a thin row.
    """

    rank: int
    stream: Stream
    top: float
    height: float
    label: str

    @property
    def centre(self) -> float:
        """Distance of its middle from the top of the picture."""
        return self.top + self.height / 2


def stream_rows(num_ranks: int, used: Iterable[tuple[int, Stream]]) -> list[StreamRow]:
    """Lay out a compute row for every rank and a thin row under it for every other used stream.

    Args:
        num_ranks: ranks of the run.
        used: (rank, stream) that run something.

    Returns:
        Rows from top to bottom.
    """
    in_use = set(used)
    rows: list[StreamRow] = []
    top = 0.0
    for rank in range(num_ranks):
        for stream in Stream:
            if stream is not Stream.COMPUTE and (rank, stream) not in in_use:
                continue
            height = COMPUTE_HEIGHT if stream is Stream.COMPUTE else THIN_HEIGHT
            label = _WORDS.get(stream, f"rank {rank}")
            rows.append(StreamRow(rank, stream, top, height, label))
            top += height
        top += GAP
    return rows


def layout_height(rows: list[StreamRow]) -> float:
    """Distance from the top of the first row to the bottom of the last one."""
    return max((row.top + row.height for row in rows), default=0.0)
