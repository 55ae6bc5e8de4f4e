"""The memory slots that dynamic programs round sizes up to."""

from __future__ import annotations

from remora.errors import InvalidInputError

__all__ = ["check_slots"]


def check_slots(slots: int) -> None:
    """Refuse a number of slots that is no count.

    Raises:
        InvalidInputError: it is below 1.
    """
    if slots < 1:
        raise InvalidInputError(f"slots is {slots}; allowed: 1 or more")
