"""Random problems of inference that are small enough to try every schedule."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterable, Iterator

import torch

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.hardware import Link
from remora.schedule.inference import InferenceSpec
from remora.schedule.pass_space import DISTANCES, PassSpace, Waiting
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.compiled import simulator_of
from tests.passes import LINKS, pass_problem, timed_costs
from tests.pipelines import gpu_hardware
from tests.problems import BlockChain, cpu_hardware

NUM_CASES = 8


@functools.lru_cache(maxsize=1)
def small_graph() -> ModelGraph:
    """Four uneven blocks and a head."""
    return trace(BlockChain((32, 64, 16, 64)).eval(), (torch.randn(8, 16),), forward_only=True)


def random_case(seed: int) -> Problem:
    """A problem whose budget forces something to the host."""
    rng, graph = random.Random(seed), small_graph()
    count = len(graph.units)
    ranks = rng.choice([1, 1, 2, 3])
    unit_s = tuple(rng.choice([0.5, 1.0, 2.0, 3.0]) for _ in range(count))
    costs = timed_costs(graph, unit_s, rng.choice([0.3, 1.0, 2.5]))
    if seed % 2:
        rates = [rng.choice([2000.0, 10000.0]) for _ in range(2)]
        costs = dataclasses.replace(costs, h2d_bytes_per_s=rates[0], d2h_bytes_per_s=rates[1])
    sizes = tuple(rng.choice([0, 0, 500]) for _ in range(count))
    link = LINKS[0] if seed % 3 else Link(float("inf"), 0.4)
    problem = pass_problem(
        graph,
        costs,
        InferenceSpec(8, rng.choice([1, 4]), 4, 4, sizes),
        world_size=ranks,
        micro_batches=(1, 2),
        hardware=cpu_hardware() if seed == 3 else gpu_hardware(link=link),
    )
    return with_room(problem, ranks, rng.choice([0.0, 0.3, 0.6]))


def with_room(problem: Problem, ranks: int, share: float) -> Problem:
    """The same problem with a budget between everything and nothing on the host."""
    space, simulator = PassSpace(problem), simulator_of(problem)
    pipeline = space.balanced(ranks, 1)
    most, least = (
        simulator.figures(space.build(pipeline, waiting)).max_peak_bytes
        for waiting in (Waiting(), space.everything)
    )
    return dataclasses.replace(problem, budget_bytes=int(least + (most - least) * share))


def every_schedule(problem: Problem) -> Iterator[Schedule]:
    """All schedules of the class that the exact scheduler searches."""
    space = PassSpace(problem)
    windows = (1, 2) if space.caching else (1,)
    for pipeline in space.pipelines:
        for cuts in itertools.combinations(range(1, space.num_units), len(pipeline.cuts)):
            cut = dataclasses.replace(pipeline, cuts=cuts)
            for distance, window in itertools.product(DISTANCES, windows):
                for weights in subsets(space.streamable):
                    for caches in subsets(space.caching):
                        waiting = Waiting(frozenset(weights), frozenset(caches))
                        yield space.build(cut, waiting, distance, window)


def subsets(units: Iterable[int]) -> Iterator[tuple[int, ...]]:
    listed = list(units)
    for count in range(len(listed) + 1):
        yield from itertools.combinations(listed, count)


def fastest_s(problem: Problem) -> float:
    """Seconds of the fastest schedule that fits."""
    figures = simulator_of(problem).batch(list(every_schedule(problem)))
    fitting = (f.step_time_s for f in figures if f.max_peak_bytes <= problem.budget_bytes)
    return min(fitting, default=float("inf"))
