"""The compiled engine gives the reference's numbers, to the last bit, on random schedules."""

from __future__ import annotations

import pytest

from remora.graph.model_graph import ModelGraph
from remora.schedule.schedule import Schedule
from remora.simulator.compiled import CompiledSimulator, Figures
from remora.simulator.simulate import simulate
from tests.low_bit import mixed_zoo_graph
from tests.problems import problem_of, toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem, random_full_schedule
from tests.schedule.plans import random_schedule
from tests.shared_layers import shared_graph, shared_zoo_graph

MODELS = ("gpt2_tiny", "unet_tiny", "t5_tiny", "resnet_tiny", "toy")


def graph_of(name: str) -> ModelGraph:
    return toy_graph((64,) * 6) if name == "toy" else zoo_graph(name)


def agree(name: str, world_size: int, seeds: range) -> None:
    agree_on(graph_of(name), world_size, seeds)


def agree_on(graph: ModelGraph, world_size: int, seeds: range) -> None:
    optimizer = "adamw_master" if world_size == 8 else "adamw"
    problem = full_problem(graph, world_size, optimizer)
    schedules = [random_full_schedule(problem, seed) for seed in seeds]
    found = CompiledSimulator(problem).batch(schedules)
    for seed, schedule, figures in zip(seeds, schedules, found, strict=True):
        timeline = simulate(problem, schedule)
        expected = Figures(timeline.step_time_s, timeline.peak_bytes, timeline.host_peak_bytes)
        assert figures == expected, (graph.model_name, world_size, seed)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_random_schedules_of_the_whole_language(name: str, world_size: int) -> None:
    agree(name, world_size, range(12))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("name", [*MODELS, "swin_test", "llama_tiny"])
def test_thousands_of_random_schedules(name: str, world_size: int) -> None:
    agree(name, world_size, range(1000, 1150))


@pytest.mark.parametrize(("degree", "world_size"), [(2, 2), (2, 8), (4, 8)])
@pytest.mark.parametrize("zoo", [False, True], ids=["toy", "bert"])
def test_random_schedules_of_shared_layers(degree: int, world_size: int, zoo: bool) -> None:
    graph = shared_zoo_graph("bert_tiny", degree) if zoo else shared_graph(degree)
    agree_on(graph, world_size, range(12))


@pytest.mark.parametrize("world_size", [1, 4])
@pytest.mark.parametrize("name", ["gpt2_tiny", "resnet_tiny"])
def test_random_schedules_of_units_in_fewer_bits(name: str, world_size: int) -> None:
    agree_on(mixed_zoo_graph(name), world_size, range(12))


def test_on_a_cpu_copies_run_in_line() -> None:
    graph = zoo_graph("gpt2_tiny")
    problem = problem_of(graph, optimizer="sgd")
    simulator = CompiledSimulator(problem)
    for seed in range(30):
        schedule = random_schedule(graph, seed)
        timeline = simulate(problem, schedule)
        figures = simulator.figures(schedule)
        assert figures.step_time_s == timeline.step_time_s
        assert figures.peak_bytes == timeline.peak_bytes


def test_a_batch_answers_in_order_whatever_it_mixes() -> None:
    """Scratch memory is used again: a plan must not see what the one before left there."""
    problem = full_problem(toy_graph((64,) * 6), 4)
    schedules: list[Schedule] = [random_full_schedule(problem, seed) for seed in range(25)]
    together = CompiledSimulator(problem).batch(schedules)
    alone = [CompiledSimulator(problem).figures(schedule) for schedule in schedules]
    assert together == alone
    backwards = CompiledSimulator(problem).batch(schedules[::-1])
    assert backwards == alone[::-1]
