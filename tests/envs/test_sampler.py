"""Which problems and budgets are drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import BudgetDraw, JointSampler
from remora.envs.variants import variants_of
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.problem import OPTIMIZERS, Problem
from tests.envs.problems import costs_of, graph_of, tables_of
from tests.problems import cpu_hardware


def test_budgets_are_mostly_in_their_range_and_never_below_the_least() -> None:
    tables = tables_of("gpt2_tiny", "none")
    sampler = JointSampler([tables], BudgetDraw(0.1, 0.2, elsewhere=0.1))
    generator = np.random.default_rng(0)
    budgets = [sampler.sample(generator)[1] for _ in range(200)]
    inside = [tables.budget_bytes(0.1) <= budget <= tables.budget_bytes(0.2) for budget in budgets]
    assert 0.8 < np.mean(inside) < 1.0
    assert min(budgets) >= tables.least_bytes


def test_problems_that_the_test_refuses_are_left_out() -> None:
    easy, hard = tables_of("toy"), tables_of("gpt2_tiny")
    asked: list[int] = []

    def keep(tables: ProblemTables, budget_bytes: int) -> bool:
        asked.append(budget_bytes)
        return tables is hard

    sampler = JointSampler([easy, hard], keep=keep)
    generator = np.random.default_rng(0)
    assert {sampler.sample(generator)[0] for _ in range(10)} == {1}
    assert len(asked) > 10


def test_a_budget_is_within_free_memory() -> None:
    problem = dataclasses.replace(tables_of("toy").problem, hardware=_small())
    tables = ProblemTables("small", problem)
    sampler = JointSampler([tables], BudgetDraw(0.9, 1.0, elsewhere=0.0))
    _, budget = sampler.sample(np.random.default_rng(0))
    assert budget == problem.hardware.free_memory_bytes < tables.budget_bytes(0.9)


def _small() -> Hardware:
    tables = tables_of("toy")
    middle = (tables.least_bytes + tables.budget_bytes(0.5)) // 2
    return dataclasses.replace(cpu_hardware(device_type="cuda"), memory_bytes=middle)


def test_variants_change_sizes_and_work_but_not_weights() -> None:
    graph = graph_of("gpt2_tiny")
    (varied,) = variants_of({1: graph}, 0.5, 3).values()
    assert variants_of({1: graph}, 0.0, 3) == {1: graph}
    assert varied.content_hash != graph.content_hash
    real, changed = ([unit.kind for unit in g.units] for g in (graph, varied))
    assert len(set(zip(real, changed, strict=True))) == len(set(real)) == len(set(changed))
    assert not set(real) & set(changed)
    for before, after in zip(graph.storages, varied.storages, strict=True):
        assert before.role == "activation" or before == after
    tables = ProblemTables("varied", _problem_of(varied))
    assert tables.keep_all_bytes != ProblemTables("real", _problem_of(graph)).keep_all_bytes


def _problem_of(graph: ModelGraph) -> Problem:
    hardware = cpu_hardware(device_type="cuda")
    return Problem({1: graph}, {1: costs_of(graph)}, hardware, OPTIMIZERS["adamw"], 2**36)


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match="problems is empty"):
        JointSampler([])
    with pytest.raises(InvalidInputError, match="allowed: each once"):
        JointSampler([tables_of("toy"), tables_of("toy")])
    with pytest.raises(InvalidInputError, match=r"0\.4 to 0\.2; allowed: 0 <= low <= high"):
        BudgetDraw(0.4, 0.2)
    with pytest.raises(InvalidInputError, match="elsewhere is 2; allowed: 0 to 1"):
        BudgetDraw(elsewhere=2)
    with pytest.raises(InvalidInputError, match="spread is -1; allowed: 0 or more"):
        variants_of({1: graph_of("toy")}, -1, 0)
