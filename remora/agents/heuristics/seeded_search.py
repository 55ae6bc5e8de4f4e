"""What searches by random changes have in common."""

from __future__ import annotations

from dataclasses import dataclass

from remora.errors import InvalidInputError

__all__ = ["SeededSearch", "check_evaluations"]


@dataclass(frozen=True)
class SeededSearch:
    """Settings of a search by random changes.

    Attributes:
        evaluations: schedules to simulate after the first plans, None to use all the time there
            is; the same number and seed give the same schedule, unless the time limit ends the
            search earlier.
        seed: of the random changes.
    """

    evaluations: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of evaluations."""
        check_evaluations(self.evaluations)


def check_evaluations(evaluations: int | None) -> None:
    """Refuse a number of evaluations that is no count.

    Raises:
        InvalidInputError: it is negative.
    """
    if evaluations is not None and evaluations < 0:
        raise InvalidInputError(f"evaluations is {evaluations}; allowed: 0 or more, or null")
