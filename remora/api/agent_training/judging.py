"""A trained policy beside other schedulers, on the problems of the validation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from remora.agents.candidates import run_member
from remora.agents.learned.decoding import Decoded, Decoder
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.agents.learned.slack import fitting_plans
from remora.agents.registry import create
from remora.api.agent_training.config import EvaluationConfig
from remora.schedule.schedule import Schedule

__all__ = ["COLUMNS", "GREEDY_DECODE", "SAMPLED_DECODE", "Answer", "compared", "summary_rows"]

GREEDY_DECODE = "policy, greedy"
SAMPLED_DECODE = "policy, samples"

COLUMNS = ("method", "problems", "none", "median %", "mean %", "worst %", "seconds")
"""Of the summary: gaps are step times over the best known, less 1."""


@dataclass(frozen=True)
class Answer:
    """One method's answer to one problem.

    Attributes:
        problem: its name.
        method: who answered.
        gap: step time over the best known one, less 1; None without a plan.
        search_s: seconds that it took.
        schedule: the plan.
    """

    problem: str
    method: str
    gap: float | None
    search_s: float
    schedule: Schedule | None


def compared(
    network: PlanNetwork, validation: Validation, config: EvaluationConfig, seed: int
) -> Iterator[Answer]:
    """Answer every problem with the policy, decoded in two ways, and with each scheduler."""
    for problem in validation.problems:
        yield from _decoded(network, problem, config.samples, seed)
        planned = replace(problem.tables.problem, budget_bytes=problem.budget_bytes)
        for name in config.schedulers:
            found = run_member(create(name), planned, config.time_limit_s)
            gap = None
            if found.feasible and found.step_time_s is not None:
                gap = found.step_time_s / problem.best_known_s - 1
            yield Answer(problem.tables.name, name, gap, found.search_s, found.schedule)


def summary_rows(answers: Sequence[Answer]) -> list[tuple[str, ...]]:
    """A row per method; see :data:`COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for method in dict.fromkeys(answer.method for answer in answers):
        own = [answer for answer in answers if answer.method == method]
        gaps = [answer.gap for answer in own if answer.gap is not None]
        figures: tuple[str, ...] = ("-", "-", "-")
        if gaps:
            mean = math.expm1(float(np.mean(np.log1p(gaps))))
            figures = tuple(f"{value * 100:.2f}" for value in (median(gaps), mean, max(gaps)))
        seconds = median(answer.search_s for answer in own)
        rows.append((method, str(len(own)), str(len(own) - len(gaps)), *figures, f"{seconds:.2f}"))
    return rows


def _decoded(
    network: PlanNetwork, problem: ValidationProblem, samples: int, seed: int
) -> Iterator[Answer]:
    tables, budget = problem.tables, problem.budget_bytes
    for method, count in ((GREEDY_DECODE, 0), (SAMPLED_DECODE, samples)):
        begin = time.perf_counter()
        decoder = Decoder(network, tables, budget)
        plans = fitting_plans(decoder, tables, budget, count, np.random.default_rng(seed))
        best = min(plans or [decoder.greedy()], key=lambda decoded: decoded.step_time_s)
        yield _answer(problem, method, best, time.perf_counter() - begin)


def _answer(problem: ValidationProblem, method: str, decoded: Decoded, search_s: float) -> Answer:
    gap = decoded.step_time_s / problem.best_known_s - 1
    return Answer(problem.tables.name, method, gap, search_s, decoded.schedule)
