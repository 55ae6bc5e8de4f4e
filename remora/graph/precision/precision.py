"""In how many bits a unit computes, and which of that a device can do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from remora.errors import InvalidInputError

__all__ = [
    "RATE_OF",
    "Precision",
    "allowed_precisions",
    "check_precisions",
    "is_lossy",
    "lossy_precisions",
]


class Precision(StrEnum):
    """What the products of one unit are computed in; what passes between units stays as it is."""

    MODEL = "model"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


RATE_OF: Mapping[Precision, str] = {
    Precision.BF16: "bfloat16",
    Precision.INT8: "int8",
    Precision.FP8: "float8",
}
"""Whose matrix rate a device has to have, by name in ``Hardware.flops_per_s``."""


def allowed_precisions(rates: Collection[str], forward_only: bool) -> tuple[Precision, ...]:
    """Precisions besides the model's own that a device can compute in.

    Args:
        rates: dtypes whose matrix rate is known of the device.
        forward_only: whether passes of inference are planned, for which weights of eight bits are
            all there is: shorter products would not make the weights shorter that they read.
    """
    if forward_only:
        return (Precision.INT8,)
    return tuple(precision for precision, rate in RATE_OF.items() if rate in rates)


def check_precisions(
    names: Iterable[str], allowed: Sequence[Precision], where: str
) -> tuple[Precision, ...]:
    """Return the precisions of some names, each once.

    Args:
        names: as a user writes them.
        allowed: what there is.
        where: ends the sentence of an error, as ``on a100_80g``.

    Raises:
        InvalidInputError: names the value and what is allowed.
    """
    for name in names:
        if name not in allowed:
            words = ", ".join(allowed) or "none"
            raise InvalidInputError(f"precision is {name!r}; allowed {where}: {words}")
    return tuple(dict.fromkeys(Precision(name) for name in names))


def is_lossy(precisions: Iterable[Precision]) -> bool:
    """Whether any unit computes in fewer bits than its model."""
    return bool(lossy_precisions(precisions))


def lossy_precisions(precisions: Iterable[Precision]) -> tuple[Precision, ...]:
    """Precisions besides the model's own that occur, each once."""
    return tuple(dict.fromkeys(one for one in precisions if one is not Precision.MODEL))
