"""Problems and random schedules for properties that hold for all of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Link
from remora.schedule.chain import Chain
from remora.schedule.costs import CostTable
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from tests.problems import toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem, random_full_schedule

GRAPHS = ("gpt2_tiny", "unet_tiny", "t5_tiny", "toy")
WORLD_SIZES = (1, 2, 4, 8)
OPTIMIZERS = ("adamw", "adamw_master", "sgd", "none")


class Case(NamedTuple):
    """Everything that is drawn."""

    name: str
    world_size: int
    optimizer: str
    seed: int


CASES = st.builds(
    Case,
    st.sampled_from(GRAPHS),
    st.sampled_from(WORLD_SIZES),
    st.sampled_from(OPTIMIZERS),
    st.integers(0, 100_000),
)


def graph_of(name: str) -> ModelGraph:
    return toy_graph() if name == "toy" else zoo_graph(name)


@functools.lru_cache(maxsize=64)
def problem_of_case(name: str, world_size: int, optimizer: str) -> Problem:
    """Problems of one graph share its tables, which take longer to make than a simulation."""
    problem = full_problem(graph_of(name), world_size, optimizer)
    vars(problem)["chain"] = _chain(name)
    return problem


@functools.lru_cache(maxsize=8)
def _chain(name: str) -> Chain:
    return full_problem(graph_of(name)).chain


def drawn(case: Case) -> tuple[Problem, Schedule]:
    problem = problem_of_case(case.name, case.world_size, case.optimizer)
    return problem, random_full_schedule(problem, case.seed)


def with_costs(problem: Problem, change: Callable[[CostTable], Mapping[str, Any]]) -> Problem:
    """The problem with fields of its cost table changed."""
    costs = dataclasses.replace(problem.cost, **change(problem.cost))
    return dataclasses.replace(problem, costs=dict.fromkeys(problem.costs, costs))


def with_links(problem: Problem, **links: Link) -> Problem:
    """The problem with other links between devices."""
    hardware = dataclasses.replace(problem.hardware, **links)
    changed = dataclasses.replace(problem, hardware=hardware)
    vars(changed)["chain"] = problem.chain
    return changed
