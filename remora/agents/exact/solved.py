"""What an exact solver knows at its end: a plan, and how fast a plan could be at most."""

from __future__ import annotations

from dataclasses import dataclass

from remora.schedule.schedule import Schedule

__all__ = ["Solved"]

# Solvers work to a relative gap; sums of the same durations differ in the last digits.
_SAME_TIME = 1e-6


@dataclass(frozen=True, slots=True)
class Solved:
    """The end of an exact search over one class of schedules.

    Attributes:
        schedule: the best schedule that fits, replayed in the simulator; None if none was found.
        step_time_s: its simulated seconds; infinite without one.
        bound_s: no schedule of the class that fits takes less; infinite if none fits.
    """

    schedule: Schedule | None
    step_time_s: float
    bound_s: float

    @property
    def proven(self) -> bool:
        """Whether the schedule is the fastest of its class, or the class is known to be empty."""
        return self.bound_s >= self.step_time_s * (1 - _SAME_TIME)
