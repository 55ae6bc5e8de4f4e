"""Memory budgets as people write them: bytes, a share of keep-all, a point in the useful range."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from remora.errors import InvalidInputError
from remora.hardware.hardware import Hardware

__all__ = ["Budget", "BudgetKind", "free_budget_bytes", "parse_budget", "resolve_budget"]

_ALLOWED = (
    "bytes such as 8589934592, 8GiB or 500MB, a share of the keep-all peak such as 60%, "
    "or range:0.0 (the smallest peak by recomputation) to range:1.0 (the keep-all peak)"
)
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)
_FREE_SHARE = 0.95


class BudgetKind(StrEnum):
    """How the number of a budget is meant."""

    BYTES = "bytes"
    SHARE = "share"
    RANGE = "range"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Budget:
    """A memory budget per device before the model is known.

    Attributes:
        kind: how ``value`` is meant.
        value: bytes, a share of the keep-all peak, or a point of the range; 0 for ``FREE``, the
            free device memory less 5 %.
    """

    kind: BudgetKind
    value: float


def parse_budget(memory: int | str | None) -> Budget:
    """Read a budget.

    Args:
        memory: bytes; ``"8GiB"``, ``"500MB"``; ``"60%"``; ``"range:0.4"``; or None for the free
            device memory less 5 %.

    Raises:
        InvalidInputError: none of these forms, or a number that is not allowed.
    """
    if memory is None:
        return Budget(BudgetKind.FREE, 0.0)
    text = str(memory).strip()
    if text.startswith("range:"):
        point = _number(memory, text.removeprefix("range:"))
        if not 0 <= point <= 1:
            raise _refused(memory)
        return Budget(BudgetKind.RANGE, point)
    if text.endswith("%"):
        share = _number(memory, text.removesuffix("%")) / 100
        if share <= 0:
            raise _refused(memory)
        return Budget(BudgetKind.SHARE, share)
    match = _SIZE.fullmatch(text)
    unit = match.group(2).lower() if match else None
    if match is None or unit not in _UNITS:
        raise _refused(memory)
    num_bytes = _number(memory, match.group(1)) * _UNITS[unit]
    if num_bytes < 1:
        raise _refused(memory)
    return Budget(BudgetKind.BYTES, num_bytes)


def resolve_budget(
    budget: Budget,
    hardware: Hardware,
    keep_all_peak_bytes: Callable[[], int],
    floor_peak_bytes: Callable[[], int],
) -> int:
    """Turn a budget into bytes.

    Args:
        budget: as parsed.
        hardware: its free memory is the default.
        keep_all_peak_bytes: called for shares and ranges only.
        floor_peak_bytes: called for ranges only.

    Returns:
        Bytes per device; at both ends of the range exactly the peak there.
    """
    if budget.kind is BudgetKind.BYTES:
        return int(budget.value)
    if budget.kind is BudgetKind.FREE:
        return free_budget_bytes(hardware)
    high = keep_all_peak_bytes()
    if budget.kind is BudgetKind.SHARE:
        return max(1, round(high * budget.value))
    low = floor_peak_bytes()
    return low + math.ceil((high - low) * budget.value)


def free_budget_bytes(hardware: Hardware) -> int:
    """The default budget: the free memory of a device less 5 %."""
    return int(hardware.free_memory_bytes * _FREE_SHARE)


def _number(memory: int | str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _refused(memory) from None
    if not math.isfinite(value):
        raise _refused(memory)
    return value


def _refused(memory: int | str) -> InvalidInputError:
    return InvalidInputError(f"memory is {memory!r}, allowed: {_ALLOWED}")
