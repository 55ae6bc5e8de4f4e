"""The ``key=value`` arguments as Hydra takes them."""

from __future__ import annotations

from collections.abc import Sequence

from remora.errors import InvalidInputError

__all__ = ["allowed_overrides"]

_OWN_VALUES = "model.values."


def allowed_overrides(overrides: Sequence[str]) -> list[str]:
    """Refuse arguments that Hydra would take for something else, and open the values of own models.

    Args:
        overrides: what the user gave.

    Returns:
        The same; values of a model of the user's own, which no file lists, may be new keys.

    Raises:
        InvalidInputError: an argument without a key, or one that deletes a key.
    """
    own = "model=custom" in overrides
    return [_allowed(text, own) for text in overrides]


def _allowed(text: str, own: bool) -> str:
    if text.startswith("="):
        raise InvalidInputError(f"argument {text!r} names no key, allowed: key=value")
    if text.startswith("~"):
        raise InvalidInputError(f"argument {text!r} removes a key, allowed: key=value")
    return f"++{text}" if own and text.startswith(_OWN_VALUES) else text
