"""Lists of names and mappings that a benchmark is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remora.errors import InvalidInputError

__all__ = ["check_entries", "check_once"]


def check_entries(field: str, entries: Sequence[Any], example: str) -> None:
    """Refuse what is no list, or an empty one.

    Raises:
        InvalidInputError: it is; the message has the example.
    """
    if isinstance(entries, str) or not entries:
        raise InvalidInputError(f"{field} is {entries!r}; allowed: a list such as {example}")


def check_once(field: str, names: Sequence[str]) -> None:
    """Refuse a name that is there twice.

    Raises:
        InvalidInputError: there is one.
    """
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{field} names {name!r} more than once; allowed: once")
