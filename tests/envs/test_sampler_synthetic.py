"""Synthetic models: they simulate as traced ones do."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from remora.agents.evaluation import score_of
from remora.agents.heuristics.moves import random_move
from remora.agents.heuristics.space import Space
from remora.cost_models.roofline import roofline_costs
from remora.envs.building import build_problem
from remora.envs.drawing import SYNTHETIC, ProblemSpec
from remora.envs.graphs import unit_edges
from remora.envs.synthetic import FORMS, synthetic_graphs
from remora.envs.synthetic_graph import Block, Layer, LayerKind, block_graph
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.chain import Chain
from remora.schedule.problem import Problem
from remora.schedule.validate import validate
from remora.simulator.compiled import simulator_of
from remora.simulator.simulate import simulate
from tests.problems import cpu_hardware
from tests.problems import problem_of as problem_of_graph

COUNTS = (1, 4, 8)


def graphs_of(form: str, units: int, seed: int = 0) -> dict[int, ModelGraph]:
    return synthetic_graphs({"batch": 32, "units": units, "form": form}, seed, COUNTS)


def problem_of(form: str, world_size: int, seed: int = 0) -> Problem:
    spec = ProblemSpec(
        name=form,
        model=SYNTHETIC,
        values={"batch": 32},
        spread=0.0,
        model_seed=seed,
        hardware="test",
        free_memory_share=1.0,
        host_link_share=0.5,
        link_share=0.5,
        optimizer="adamw",
        world_size=world_size,
        micro_batches=None,
        range=0.3,
    )
    return build_problem(spec, graphs_of(form, 12, seed), cpu_hardware(device_type="cuda"))


@pytest.mark.parametrize("world_size", [1, 4])
@pytest.mark.parametrize("form", FORMS)
def test_random_plans_simulate_alike_in_both_engines(form: str, world_size: int) -> None:
    problem, rng = problem_of(form, world_size, seed=3), Random(0)
    space = Space(problem)
    plan = space.keep_all
    for number in range(36):
        plan = random_move(space, plan, rng)
        if number % 6 == 5:
            validate(problem, plan)
            figures, timeline = simulator_of(problem).figures(plan), simulate(problem, plan)
            assert figures.step_time_s == pytest.approx(timeline.step_time_s)
            assert figures.max_peak_bytes == timeline.max_peak_bytes


@pytest.mark.parametrize("form", FORMS)
def test_the_floor_needs_less_memory_and_more_time_than_keeping_everything(form: str) -> None:
    problem = problem_of(form, 1)
    space = Space(problem)
    least, kept = score_of(problem, space.floor), score_of(problem, space.keep_all)
    assert least.peak_bytes < problem.budget_bytes < kept.peak_bytes
    assert least.step_time_s > kept.step_time_s


@pytest.mark.parametrize("units", [4, 9, 40])
@pytest.mark.parametrize("form", FORMS)
def test_there_are_as_many_units_as_asked_for(form: str, units: int) -> None:
    for seed in range(2):
        graphs = graphs_of(form, units, seed)
        assert [len(graph.units) for graph in graphs.values()] == [units] * len(COUNTS)
        assert graphs == graphs_of(form, units, seed)
        assert graphs[1].content_hash != graphs[4].content_hash
        assert graphs[1].parameter_bytes == graphs[8].parameter_bytes
        assert graphs[1].flops == pytest.approx(8 * graphs[8].flops)
        assert graphs[1].input_bytes == 8 * graphs[8].input_bytes


def test_forms_differ_in_what_they_are_there_for() -> None:
    shares = {}
    for form in FORMS:
        graph = graphs_of(form, 24)[1]
        chain = Chain(graph, roofline_costs(graph, cpu_hardware(device_type="cuda")))
        saved = [unit.own_saved_bytes for unit in chain.units[1:-1]]
        far = [b - a for a, b in unit_edges(chain) if b - a > 1]
        shares[form] = (max(saved) / min(saved), max(far, default=0))
    assert shares["even"][0] < 2 < shares["pyramid"][0]
    assert shares["even"][1] == shares["pyramid"][1] == 0
    assert shares["hourglass"][1] > 8


class Residual(nn.Module):
    """Linear, GELU, linear, with a residual sum."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


class Real(nn.Module):
    """An entry and some blocks."""

    def __init__(self, width: int, inner: int, depth: int) -> None:
        super().__init__()
        self.entry = nn.Linear(4, width, bias=False)
        self.blocks = nn.ModuleList(Residual(width, inner) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x)
        return x


def test_a_block_is_what_pytorch_runs() -> None:
    samples, positions, width, inner, depth = 8, 16, 64, 256, 3
    x = torch.randn(samples, positions, 4)
    real = trace(Real(width, inner, depth), (x,), loss=lambda y: y.square().sum())
    mix, point = LayerKind.MIX, LayerKind.POINT
    layers = (
        Layer(mix, positions, inner),
        Layer(point, positions, inner),
        Layer(mix, positions, width),
    )
    entry = Block((Layer(mix, positions, width),))
    body = [Block(layers, residual=True)] * depth
    end = Block((Layer(LayerKind.LOSS, 1, 1),))
    drawn = block_graph([entry, *body, end], positions, 4, samples, "float32")
    chains = [
        Chain(graph, roofline_costs(graph, cpu_hardware(device_type="cuda")))
        for graph in (real, drawn)
    ]
    middle = [chain.units[2] for chain in chains]
    assert len({unit.own_saved_bytes for unit in middle}) == 1
    assert len({unit.saved_bytes for unit in middle}) == 1
    assert len({chain.input_bytes(2) for chain in chains}) == 1
    assert len({chain.gradient_bytes(2) for chain in chains}) == 1
    assert real.parameter_bytes == drawn.parameter_bytes
    assert middle[1].forward_s == pytest.approx(middle[0].forward_s, rel=0.05)
    assert middle[1].backward_s == pytest.approx(middle[0].backward_s, rel=0.05)
    peaks = [_keep_all_peak(graph) for graph in (real, drawn)]
    assert peaks[1] == pytest.approx(peaks[0], rel=0.02)


def _keep_all_peak(graph: ModelGraph) -> int:
    problem = problem_of_graph(graph, optimizer="none", costs=roofline_costs(graph, cpu_hardware()))
    return simulator_of(problem).figures(Space(problem).keep_all).max_peak_bytes


def test_bad_values_are_named() -> None:
    values = {"batch": 8, "units": 8, "form": "even"}
    with pytest.raises(InvalidInputError, match="units of a synthetic model is 3; allowed: 4 to"):
        synthetic_graphs({**values, "units": 3}, 0, (1,))
    with pytest.raises(InvalidInputError, match="form of a synthetic model is 'odd'; allowed: ev"):
        synthetic_graphs({**values, "form": "odd"}, 0, (1,))
    with pytest.raises(InvalidInputError, match="batch of a synthetic model is None; allowed: 1"):
        synthetic_graphs({**values, "batch": None}, 0, (1,))
