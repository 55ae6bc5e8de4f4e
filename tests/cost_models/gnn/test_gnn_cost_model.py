"""The cost model as searches use it."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

from remora.cost_models.gnn.cost_model import GnnCostModel
from remora.cost_models.gnn.op_times import OpTimes
from remora.cost_models.gnn.step_model import Offsets, fit_step_model
from remora.cost_models.gnn.step_training import StepTrainingConfig
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.costs import CostTable
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import PipelineKind, PipelinePlan
from remora.simulator.records import CostModel
from remora.simulator.simulate import estimate
from tests.cost_models.gnn.synthetic_steps import (
    block_graph,
    costs_of_graph,
    examples,
    problem_of,
    random_schedules,
)
from tests.problems import cpu_hardware


class RooflineOperators:
    """Stands in for learned operator times."""

    def costs(self, graph: ModelGraph, hardware: Hardware, optimizer: str) -> CostTable:
        return costs_of_graph(graph)

    def op_times_s(self, graph: ModelGraph, hardware: Hardware) -> OpTimes:
        zeros = np.zeros(len(graph.ops))
        return OpTimes(zeros, zeros, zeros.astype(np.int64), ("a note on operators",))


@pytest.fixture(scope="module")
def model() -> GnnCostModel:
    config = StepTrainingConfig(members=2, epochs=10, hidden=8, layers=1)
    return GnnCostModel(RooflineOperators(), fit_step_model(examples(per_family=7), config))


def test_one_schedule_is_estimated_as_among_many(model: GnnCostModel) -> None:
    problem = problem_of(block_graph((32, 64, 32, 16, 32, 64), 8))
    schedules = random_schedules(problem, 30)
    many = model.estimate_many(problem, schedules)
    for schedule, among in zip(schedules, many, strict=True):
        alone = model.estimate(problem, schedule)
        assert alone.step_time_s == pytest.approx(among.step_time_s, rel=1e-6)
        fields = {"step_time_s": 0.0}
        assert dataclasses.replace(alone, **fields) == dataclasses.replace(among, **fields)


def test_the_bound_is_never_below_the_peak(model: GnnCostModel) -> None:
    problem = problem_of(block_graph((32, 64, 32, 16, 32, 64), 8))
    for found in model.estimate_many(problem, random_schedules(problem, 30)):
        assert found.peak_bound_bytes >= found.peak_memory_bytes > 0
        assert found.peak_by_rank_bytes == (found.peak_memory_bytes,)
        assert found.bound_confidence == 0.95
        assert found.cost_model == "gnn"


def test_breakdown_and_host_bytes_are_the_simulated_ones(model: GnnCostModel) -> None:
    problem = problem_of(block_graph((32, 64, 32, 16, 32, 64), 8))
    schedule = random_schedules(problem, 6)[5]
    found, plain = model.estimate(problem, schedule), estimate(problem, schedule, "test")
    assert dict(found.breakdown_bytes) == dict(plain.breakdown_bytes)
    assert found.host_bytes == plain.host_bytes
    assert pickle.loads(pickle.dumps(found)) == found
    assert type(copy.deepcopy(found).breakdown_bytes) is dict


def test_a_schedule_of_another_graph_is_refused(model: GnnCostModel) -> None:
    problem = problem_of(block_graph((32, 64, 32, 16, 32, 64), 8))
    foreign = keep_all_schedule(block_graph((16, 24, 32, 16), 8))
    with pytest.raises(InvalidInputError, match="graph_hash is"):
        model.estimate_many(problem, [foreign])


def test_it_is_a_cost_model_that_makes_its_own_tables(model: GnnCostModel) -> None:
    graph = block_graph((16, 24, 32, 16), 8)
    problem = problem_of(graph)
    seen: CostModel = model
    assert seen.name == "gnn"
    assert model.costs(graph, problem.hardware, "adamw") == costs_of_graph(graph)
    assert model.device_types == ("cpu",)


def test_it_says_what_it_leaves_to_roofline_and_simulator(model: GnnCostModel) -> None:
    graph = block_graph((16, 24, 32, 16), 8)
    assert model.notes(graph, cpu_hardware()) == ("a note on operators",)
    notes = model.notes(graph, cpu_hardware(device_type="cuda"))
    assert "no step was measured on a device of type 'cuda'" in notes[1]


def test_a_refit_correction_takes_the_place_of_the_old_one(model: GnnCostModel) -> None:
    graph = block_graph((16, 24, 32, 16), 8)
    problem, schedule = problem_of(graph), keep_all_schedule(graph)
    slower = model.with_steps(model.step_model.with_offsets(Offsets(step=0.1)))
    ratio = slower.estimate(problem, schedule).step_time_s / (
        model.estimate(problem, schedule).step_time_s
    )
    assert ratio == pytest.approx(math.exp(0.1))


def test_it_says_once_that_a_pipeline_is_not_corrected(
    model: GnnCostModel, caplog: pytest.LogCaptureFixture
) -> None:
    graph = block_graph((16, 24, 32, 16), 8)
    problem = problem_of(graph, world_size=2)
    pipeline = PipelinePlan(PipelineKind.GPIPE, cuts=(2,), micro_batches=2)
    found = [model.estimate(problem, keep_all_schedule(graph, pipeline)) for _ in range(2)]
    assert found[0].bound_confidence == 0
    assert len(found[0].peak_by_rank_bytes) == 2
    assert found[0].peak_memory_bytes == max(found[0].peak_by_rank_bytes)
    said = [r.message for r in caplog.records if "several ranks or micro-batches" in r.message]
    assert len(said) == 1
