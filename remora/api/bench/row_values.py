"""Records of a benchmark as values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from remora.api.bench.rows import Row
from remora.api.bench.summary import MethodSummary, ratios

__all__ = ["row_values", "summary_values"]


def row_values(row: Row, best: Mapping[str, float]) -> dict[str, Any]:
    """Return a row and how far it is above the best known and the bound.

    Args:
        row: of any method.
        best: least step time by problem.
    """
    over_best, over_bound = ratios(row, best)
    return _without_nan({**asdict(row), "over_best": over_best, "over_bound": over_bound})


def summary_values(summary: MethodSummary) -> dict[str, Any]:
    """Return the figures of a method."""
    return _without_nan(asdict(summary))


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """NaN has no place in JSON."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values.items()
    }
