"""A small case with a skip-free chain of uneven blocks, and the environment over it."""

from __future__ import annotations

import functools

from remora.cost_models.simulated import SimulatedCostModel
from remora.envs.actions import nest_every_unit
from remora.envs.observation import ObservationSize
from remora.envs.sampler import BudgetRange, ProblemSampler
from remora.envs.schedule_env import ScheduleEnv
from remora.envs.tables import Case, CaseTables
from tests.problems import problem_of, table, toy_graph

SIZE = ObservationSize(max_units=8, max_edges=16)


@functools.lru_cache(maxsize=8)
def toy_case(hidden: tuple[int, ...] = (96, 16, 160), copy_bytes_per_s: float = 1e9) -> Case:
    graph = toy_graph(hidden, batch=256)
    costs = table(graph, copy_bytes_per_s)
    return Case(f"toy{len(hidden)}", problem_of(graph, optimizer="none", costs=costs))


@functools.lru_cache(maxsize=8)
def toy_tables(hidden: tuple[int, ...] = (96, 16, 160)) -> CaseTables:
    return CaseTables(toy_case(hidden), SimulatedCostModel("test"), nest_every_unit)


def toy_sampler(low: float = 0.0, high: float = 1.0) -> ProblemSampler:
    cases = (toy_case(), toy_case((32, 96, 64, 48)))
    return ProblemSampler(cases, BudgetRange(low, high), SimulatedCostModel("test"))


def toy_env() -> ScheduleEnv:
    return ScheduleEnv(toy_sampler(), SIZE)
