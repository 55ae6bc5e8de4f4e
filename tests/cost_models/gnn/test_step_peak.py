"""The bound on the peak: it holds in every family, and is of use in those that are hard."""

from __future__ import annotations

import math

import numpy as np
import pytest

from remora.cost_models.gnn.step_features import STEP_FEATURES
from remora.cost_models.gnn.step_peak import PeakBound, difficulty, fit_peak

SHARE = STEP_FEATURES.index("workspace_share")
GRAPHS, SCHEDULES = 10, 3


def families_of(
    levels: dict[str, tuple[float, float]], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Steps of families.

    Args:
        levels: share of workspaces, and largest logarithm of measured over simulated peak.
        seed: of the draws.

    Returns:
        Features, log ratios, families and graphs.
    """
    draw = np.random.default_rng(seed)
    count = GRAPHS * SCHEDULES
    steps = np.zeros((count * len(levels), len(STEP_FEATURES)))
    ratios = np.zeros(len(steps))
    for number, (share, largest) in enumerate(levels.values()):
        own = slice(number * count, (number + 1) * count)
        steps[own, SHARE] = share
        ratios[own] = draw.uniform(0, largest, count)
    families = [name for name in levels for _ in range(count)]
    graphs = [f"{name}/{i // SCHEDULES}" for name in levels for i in range(count)]
    return steps, ratios, families, graphs


def rise(bound: PeakBound, steps: np.ndarray) -> np.ndarray:
    return bound.quantile * difficulty(steps, bound.scale)


def test_it_holds_in_every_family() -> None:
    steps, ratios, families, graphs = families_of(
        {"exact": (0.02, 0.0), "near": (0.05, 0.01), "far": (0.2, 0.1)}
    )
    head, bound = fit_peak(steps, ratios, families, graphs, 0.9)
    errors = ratios - head.log_ratio(steps)
    for family in set(families):
        own = np.array(families) == family
        assert np.mean(errors[own] <= rise(bound, steps)[own] + 1e-9) >= 0.9


def test_errors_without_workspaces_do_not_widen_it_where_workspaces_are_large() -> None:
    # Errors of the easy family have another reason than its small workspaces.
    steps, ratios, families, graphs = families_of(
        {"easy": (0.001, 0.03), "hard": (0.25, 0.03), "none": (0.001, 0.0)}
    )
    _, bound = fit_peak(steps, ratios, families, graphs, 0.9)
    assert rise(bound, steps).max() < 3 * 0.03


def test_spreads_are_those_of_the_errors() -> None:
    steps, _, families, graphs = families_of({"a": (0.1, 0.0), "b": (0.1, 0.0)})
    # One graph of all is off, each of its schedules by as much.
    ratios = np.where(np.array(graphs) == "a/0", 0.1, 0.0)
    _, bound = fit_peak(steps, ratios, families, graphs, 0.9)
    assert bound.between == pytest.approx(0.1 / math.sqrt(2 * GRAPHS), rel=0.1)
    assert bound.within == pytest.approx(0.0, abs=1e-12)
