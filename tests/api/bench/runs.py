"""Rows, runs and small suites for the tests of the bench; runs are imported by worker processes."""

from __future__ import annotations

import dataclasses
import os
import signal
from dataclasses import dataclass
from typing import Any

from remora.agents.scheduler import Scheduler
from remora.api.bench.methods import Method, MethodRun
from remora.api.bench.rows import Row
from remora.api.bench.suite import Suite, SuiteProblem, load_suite


@dataclass(frozen=True)
class DyingRun(MethodRun):
    """Takes its process with it."""

    def create(self) -> Scheduler:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True)
class BrokenRun(MethodRun):
    """Has a bug."""

    def create(self) -> Scheduler:
        raise IndexError("seven")


@dataclass(frozen=True)
class MissingRun(MethodRun):
    """Lacks its package."""

    def create(self) -> Scheduler:
        from remora.errors import MissingExtraError

        raise MissingExtraError("highspy", "solvers", "scheduler 'milp'")


GREEDY = MethodRun(Method("greedy"), None)
FLOOR = MethodRun(Method("floor"), None)
RECOMPUTE_ALL = MethodRun(Method("recompute_all"), None)


def small_suite(count: int = 1) -> Suite:
    """The first problems of the smoke suite."""
    suite = load_suite("smoke")
    return dataclasses.replace(suite, problems=suite.problems[:count])


def with_a_typo(item: SuiteProblem) -> SuiteProblem:
    """A problem whose model has no such value."""
    return dataclasses.replace(item, values={"batch": 8, "layer": 2})


def row(method: str, step_time_s: float | None, problem: str = "a", **changes: Any) -> Row:
    values: dict[str, Any] = {
        "problem": problem,
        "digest": problem,
        "problem_hash": problem,
        "model": "gpt2_tiny",
        "hardware": "rtx3090",
        "world_size": 1,
        "micro_batches": None,
        "range": 0.2,
        "method": method,
        "seed": None,
        "time_limit_s": 10.0,
        "feasible": step_time_s is not None,
        "step_time_s": step_time_s,
        "peak_bytes": None if step_time_s is None else 2**20,
        "search_s": 0.5,
        "lower_bound_s": 1.0,
        "best_known_s": None,
        "note": "",
    }
    return Row(**{**values, **changes})
