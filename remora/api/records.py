"""Frozen dataclasses from the plain values of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from remora.errors import InvalidInputError, UnknownNameError

__all__ = ["record"]

_Record = TypeVar("_Record")


def record(kind: type[_Record], where: str, values: Mapping[str, Any]) -> _Record:
    """Build a dataclass from plain values; lists become tuples.

    Args:
        kind: the dataclass.
        where: section of the configuration, for messages.
        values: by field; what is left out keeps its default.

    Raises:
        UnknownNameError: a key that the dataclass does not have.
        InvalidInputError: a value of the wrong type.
    """
    known = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UnknownNameError(f"key in {where}", str(key), known)
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return kind(**plain)
    except TypeError as error:
        raise InvalidInputError(f"{where} holds a value of the wrong type: {error}") from error
