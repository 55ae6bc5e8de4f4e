"""A part of a search, measured in evaluations or in time."""

from __future__ import annotations

from dataclasses import dataclass, field

from remora.agents.evaluation import Evaluator

__all__ = ["Stretch"]


@dataclass
class Stretch:
    """From now until so many evaluations were made, or until so little time is left.

    Attributes:
        evaluator: counts evaluations and time.
        evaluations: how many; None for a stretch of time.
        end_s: seconds that are left when it ends; for a stretch of time only.
    """

    evaluator: Evaluator
    evaluations: int | None = None
    end_s: float = 0.0
    _first: int = field(init=False)
    _start_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Note where it begins."""
        self._first = self.evaluator.evaluations
        self._start_s = self.evaluator.remaining_s

    @property
    def progress(self) -> float:
        """Share of it that is over; 1 or more at its end."""
        if self.evaluations is not None:
            made = self.evaluator.evaluations - self._first
            return made / self.evaluations if self.evaluations else 1.0
        length_s = self._start_s - self.end_s
        return (self._start_s - self.evaluator.remaining_s) / length_s if length_s > 0 else 1.0

    def part(self, share: float) -> Stretch:
        """What is left of the first ``share`` of it."""
        if self.evaluations is None:
            end_s = self._start_s - share * (self._start_s - self.end_s)
            return Stretch(self.evaluator, None, end_s)
        made = self.evaluator.evaluations - self._first
        return Stretch(self.evaluator, max(0, round(share * self.evaluations) - made))
