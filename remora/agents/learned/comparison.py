"""A policy against other schedulers on the same problems."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from remora.agents.learned.decoding import Decoder
from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.agents.registry import create
from remora.agents.scheduler import Scheduler
from remora.envs.episode import Episode
from remora.errors import InfeasibleError, TimeLimitError

__all__ = [
    "GREEDY_DECODE",
    "NO_DECISIONS",
    "SAMPLED_DECODE",
    "UNTRAINED",
    "Comparison",
    "Result",
    "compare",
    "summarise",
]

NO_DECISIONS = "ladder"
"""The environment's own completion of no decisions: what an episode starts from."""

UNTRAINED = "untrained"
"""Greedy decode of a network of the same size before training: it follows its outlook only."""

GREEDY_DECODE = "learned_greedy"
SAMPLED_DECODE = "learned_samples"


@dataclass(frozen=True)
class Result:
    """One answer to one problem.

    Attributes:
        overhead: step time over keeping everything, less 1; None where nothing fitted.
        search_s: seconds it took; left out of comparisons.
    """

    overhead: float | None
    search_s: float = dataclasses.field(compare=False)


@dataclass(frozen=True)
class Comparison:
    """All answers to one problem.

    Attributes:
        case: name of the case.
        budget_bytes: memory of the device.
        share: where the budget stands from least memory (0) to keeping everything (1).
        results: answers by scheduler.
    """

    case: str
    budget_bytes: int
    share: float
    results: Mapping[str, Result]

    def gap(self, name: str, other: str) -> float | None:
        """Step time of ``name`` over that of ``other``, less 1; None where one has no plan."""
        mine, theirs = self.results[name].overhead, self.results[other].overhead
        if mine is None or theirs is None:
            return None
        return (1 + mine) / (1 + theirs) - 1


def compare(
    network: PlanNetwork,
    problems: Iterable[tuple[float, Episode]],
    schedulers: Mapping[str, Mapping[str, Any]],
    samples: int,
    seed: int,
    time_limit_s: float = 30.0,
) -> Iterator[Comparison]:
    """Answer every problem with the policy and with each scheduler.

    Args:
        network: the policy.
        problems: share of the budget range, and the episode at its beginning.
        schedulers: settings by name in the registry.
        samples: plans that the policy draws besides its greedy one.
        seed: of those draws.
        time_limit_s: for each scheduler and problem.

    Yields:
        One comparison per problem; besides the schedulers it has rows for the policy's two ways
        of decoding, for the network before training and for what its episode starts from.
    """
    others = {name: create(name, **dict(values)) for name, values in schedulers.items()}
    for share, episode in problems:
        results = dict(_decoded(network, episode, samples, seed))
        for name, scheduler in others.items():
            results[name] = _proposed(scheduler, episode, time_limit_s)
        yield Comparison(episode.tables.case.name, episode.budget_bytes, share, results)


def summarise(rows: Sequence[Comparison], name: str, other: str) -> dict[str, float]:
    """Compare two schedulers over many problems.

    Returns:
        Number of problems with both plans, share of them where ``name`` is at least as fast, and
        median, mean and worst gap of ``name`` over ``other``; empty without such problems.
    """
    gaps = [gap for row in rows if (gap := row.gap(name, other)) is not None]
    if not gaps:
        return {}
    return {
        "problems": len(gaps),
        "at_least_as_fast": sum(gap <= 1e-9 for gap in gaps) / len(gaps),
        "median_gap": statistics.median(gaps),
        "mean_gap": math.exp(statistics.fmean(math.log1p(gap) for gap in gaps)) - 1,
        "worst_gap": max(gaps),
    }


def _decoded(
    network: PlanNetwork, episode: Episode, samples: int, seed: int
) -> Iterator[tuple[str, Result]]:
    yield NO_DECISIONS, Result(math.expm1(episode.cost), 0.0)
    untrained = Decoder(_untrained(network.size, seed), episode).greedy()
    yield UNTRAINED, Result(math.expm1(untrained.cost), 0.0)
    begin = time.perf_counter()
    decoder = Decoder(network, episode)
    greedy = decoder.greedy()
    yield GREEDY_DECODE, Result(math.expm1(greedy.cost), time.perf_counter() - begin)
    drawn = decoder.samples(samples, np.random.default_rng(seed))
    best = min([greedy, *drawn], key=lambda finished: finished.cost)
    yield SAMPLED_DECODE, Result(math.expm1(best.cost), time.perf_counter() - begin)


def _untrained(size: NetworkSize, seed: int) -> PlanNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PlanNetwork(size).eval()


def _proposed(scheduler: Scheduler, episode: Episode, time_limit_s: float) -> Result:
    tables = episode.tables
    problem = dataclasses.replace(tables.problem, budget_bytes=episode.budget_bytes)
    begin = time.perf_counter()
    try:
        schedule = scheduler.propose(problem, time_limit_s)
    except (InfeasibleError, TimeLimitError):
        return Result(None, time.perf_counter() - begin)
    search_s = time.perf_counter() - begin
    step_time_s = tables.evaluator.figures_of(schedule).step_time_s
    return Result(step_time_s / tables.keep_all.step_time_s - 1, search_s)
