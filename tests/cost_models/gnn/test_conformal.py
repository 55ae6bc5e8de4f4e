"""Bounds from held-out scores cover what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.cost_models.gnn.conformal import (
    coverage,
    family_upper_quantile,
    grouped_upper_quantile,
    upper_quantile,
    wilson_interval,
)
from remora.errors import InvalidInputError


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.05, 0.99))
def test_it_is_the_score_of_the_stated_rank(scores: list[float], confidence: float) -> None:
    rank = math.ceil((len(scores) + 1) * confidence - 1e-6)
    expected = sorted(scores)[rank - 1] if rank <= len(scores) else math.inf
    assert upper_quantile(np.array(scores), confidence) == expected


@pytest.mark.parametrize("count", [19, 40, 200])
def test_exchangeable_scores_are_covered_as_often_as_promised(count: int) -> None:
    draw = np.random.default_rng(count)
    trials = 4000
    scores = draw.lognormal(0, 1, (trials, count + 1))
    bounds = [upper_quantile(row[:-1], 0.95) for row in scores]
    share = float(np.mean(scores[:, -1] <= bounds))
    assert 0.95 - 0.012 <= share <= 0.95 + 1 / (count + 1) + 0.012


def test_a_new_group_is_covered_although_scores_of_a_group_are_alike() -> None:
    draw = np.random.default_rng(1)
    grouped = []
    for _ in range(1500):
        sizes = draw.integers(1, 12, 41)
        levels = draw.normal(0, 1, 41)
        scores = [level + 0.1 * draw.normal(size=n) for level, n in zip(levels, sizes, strict=True)]
        names = np.repeat(np.arange(40), sizes[:40])
        known = np.concatenate(scores[:40])
        bound = grouped_upper_quantile(known, list(names), 0.9)
        grouped.append(np.mean(scores[40] <= bound))
    assert 0.885 <= float(np.mean(grouped)) <= 0.93


def drawn_families(
    draw: np.random.Generator, count: int
) -> tuple[list[np.ndarray], list[list[str]]]:
    """Scores of families, each on a level of its own, with few or many graphs that differ less.

    Returns:
        Scores and names of graphs, of every family.
    """
    scores, graphs = [], []
    for family in range(count):
        sizes = draw.integers(2, 8, draw.integers(3, 40))
        means = np.repeat(draw.normal(0, 1) + draw.normal(0, 0.3, len(sizes)), sizes)
        scores.append(means + draw.normal(0, 0.2, len(means)))
        names = [f"{family}/{graph}" for graph in range(len(sizes))]
        graphs.append(np.repeat(names, sizes).tolist())
    return scores, graphs


def test_a_new_family_is_covered_although_families_differ_more_than_graphs() -> None:
    draw = np.random.default_rng(2)
    by_family, by_graph = [], []
    for _ in range(400):
        scores, graphs = drawn_families(draw, 7)
        known = np.concatenate(scores[:6])
        groups = [name for names in graphs[:6] for name in names]
        families = [name.split("/")[0] for name in groups]
        by_family.append(np.mean(scores[6] <= family_upper_quantile(known, families, groups, 0.95)))
        by_graph.append(np.mean(scores[6] <= grouped_upper_quantile(known, groups, 0.95)))
    # Six families promise 6 / 7 of the confidence; graphs alone promise all of it and fail.
    assert float(np.mean(by_family)) >= 0.93
    assert float(np.mean(by_graph)) <= 0.91


def test_every_known_family_is_covered_by_itself() -> None:
    scores, graphs = drawn_families(np.random.default_rng(3), 6)
    groups = [name for names in graphs for name in names]
    families = [name.split("/")[0] for name in groups]
    bound = family_upper_quantile(np.concatenate(scores), families, groups, 0.9)
    for own, names in zip(scores, graphs, strict=True):
        shares = [np.mean(own[np.array(names) == name] <= bound) for name in set(names)]
        assert float(np.mean(shares)) >= 0.9 - 1e-9


def test_one_family_is_bounded_as_its_graphs_are() -> None:
    scores, graphs = drawn_families(np.random.default_rng(4), 2)
    known, groups = np.concatenate(scores), [*graphs[0], *graphs[1]]
    told = family_upper_quantile(known, ["one"] * len(known), groups, 0.9)
    assert told == grouped_upper_quantile(known, groups, 0.9)


def test_too_few_scores_bound_nothing() -> None:
    assert upper_quantile(np.arange(18.0), 0.95) == math.inf
    assert upper_quantile(np.arange(19.0), 0.95) == 18.0
    assert upper_quantile(np.zeros(0), 0.5) == math.inf
    one = ["one"] * 100
    assert grouped_upper_quantile(np.arange(100.0), one, 0.95) == math.inf
    assert family_upper_quantile(np.arange(100.0), one, one, 0.95) == math.inf


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, math.nan])
def test_a_confidence_out_of_range_is_refused(confidence: float) -> None:
    with pytest.raises(InvalidInputError, match=r"confidence is .*allowed: between 0 and 1"):
        upper_quantile(np.zeros(3), confidence)


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="groups has 2 entries; allowed: 3"):
        grouped_upper_quantile(np.zeros(3), [1, 2], 0.9)
    with pytest.raises(InvalidInputError, match="families has 2 entries; allowed: 3"):
        family_upper_quantile(np.zeros(3), [1, 2], [1, 2, 3], 0.9)


def test_coverage_counts_bounds_that_hold() -> None:
    found = coverage(np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([1.0, 2.5, 2.0]))
    assert found.share == pytest.approx(2 / 3)
    assert found.mean_width == pytest.approx((0 + 1.5 + 1) / 3)
    low, high = found.interval
    assert low < found.share < high


def test_wilson_interval_of_known_counts() -> None:
    # 95 % Wilson interval of 8 in 10.
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert wilson_interval(10, 10)[1] == 1.0
