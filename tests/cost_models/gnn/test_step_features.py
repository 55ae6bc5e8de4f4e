"""What a schedule makes of every unit adds up to what the simulator says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from remora.cost_models.gnn.step_features import NODE_FEATURES, STEP_FEATURES, encoder_of
from remora.cost_models.gnn.step_parts import EVENTS, PARTS
from remora.schedule.menu import keep_all_schedule, recompute_option
from remora.schedule.schedule import Group, MemoryPlan, Schedule
from tests.cost_models.gnn.synthetic_steps import block_graph, problem_of, random_schedules
from tests.problems import zoo_graph

GRAPH = block_graph((32, 64, 32, 16, 32, 64), 8)


@pytest.mark.parametrize("name", ["blocks", "unet"])
def test_the_parts_and_the_optimizer_are_the_simulated_step(name: str) -> None:
    problem = problem_of(GRAPH if name == "blocks" else zoo_graph(name))
    schedules = random_schedules(problem, 60)
    encoded = encoder_of(problem).encode(schedules)
    rest_s = encoded.step_s - encoded.seconds.sum(axis=(0, 2))
    np.testing.assert_allclose(rest_s, problem.cost.optimizer_time_s, rtol=1e-9)


def test_features_are_finite_and_have_the_shapes_they_name() -> None:
    problem = problem_of(GRAPH)
    units = len(GRAPH.units)
    encoded = encoder_of(problem).encode(random_schedules(problem, 20))
    assert encoded.nodes.shape == (units, 20, len(NODE_FEATURES))
    assert encoded.seconds.shape == (units, 20, len(PARTS))
    assert encoded.events.shape == (20, len(EVENTS))
    assert encoded.steps.shape == (20, len(STEP_FEATURES))
    for values in (encoded.nodes, encoded.seconds, encoded.events, encoded.steps):
        assert np.isfinite(values).all()
    assert (encoded.seconds >= 0).all()


def test_a_schedule_is_encoded_the_same_alone_and_among_others() -> None:
    problem = problem_of(GRAPH)
    schedules = random_schedules(problem, 12)
    together = encoder_of(problem).encode(schedules)
    fresh = problem_of(GRAPH)
    for place, schedule in enumerate(schedules):
        alone = encoder_of(fresh).encode([schedule])
        other = together.one(place)
        for field in dataclasses.fields(alone):
            mine, theirs = getattr(alone, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(mine, theirs)


def test_nested_groups_run_units_again_more_often() -> None:
    problem = problem_of(GRAPH)
    options = keep_all_schedule(GRAPH).memory.options
    inner = Group(2, 4)
    rows = {}
    for name, group in {"flat": Group(0, 5), "nested": Group(0, 5, children=(inner,))}.items():
        memory = MemoryPlan(options, (group,))
        encoded = encoder_of(problem).encode([Schedule(GRAPH.content_hash, memory)])
        rows[name] = encoded.nodes[:, 0, NODE_FEATURES.index("reruns")]
    assert rows["flat"][:6].tolist() == [1, 1, 1, 1, 1, 0]
    assert rows["nested"][:6].tolist() == [1, 1, 2, 2, 1, 0]


def test_events_count_tensors_that_are_recomputed() -> None:
    problem = problem_of(GRAPH)
    unit = GRAPH.units[1]
    options = list(keep_all_schedule(GRAPH).memory.options)
    options[1] = recompute_option(unit)
    schedule = Schedule(GRAPH.content_hash, MemoryPlan(tuple(options)))
    encoded = encoder_of(problem).encode([keep_all_schedule(GRAPH), schedule])
    place = EVENTS.index("recomputed_tensors")
    assert encoded.events[0, place] == 0
    assert encoded.events[1, place] == len(problem.chain.units[1].saved)
    assert encoded.events[:, EVENTS.index("regions")].tolist() == [0, 1]
    trained = [s.num_bytes for s in GRAPH.storages if s.role == "gradient"]
    assert encoded.events[0, EVENTS.index("parameters")] == len(trained)
    assert encoded.events[0, EVENTS.index("gradient_bytes")] == sum(trained)
    assert (encoded.event_s > 0).all()
