"""Planning over tensor degrees and numbers of replicas: which are tried, and what comes out."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from remora.agents.registry import create
from remora.agents.scheduler import TellsOrigin
from remora.api.planning import (
    Request,
    check_request,
    known_hardware,
    make_plan,
    state_variants,
)
from remora.api.variants import TracedVariant, traced_variants
from remora.errors import InfeasibleError, InvalidInputError
from remora.report.summary import summary_sentences
from remora.schedule.problem import Problem
from remora.schedule.validate import validate
from remora.simulator.bounds import lower_bound_s
from remora.simulator.simulate import simulate
from remora.zoo import Example, build_target
from tests.zoo.model_files import load

NODES = Request(memory="1GiB", world_size=8, hardware="4xa100", cost_model="roofline")
"""Two nodes of four devices."""


@functools.lru_cache(maxsize=4)
def example_of(name: str = "llama_tiny") -> Example:
    values = load("model", name)
    return build_target(values["target"], {**values["values"], "layers": 2, "batch": 8})


def traced(request: Request, model: str = "llama_tiny") -> tuple[TracedVariant, ...]:
    check_request(request)
    return traced_variants(example_of(model), request, known_hardware(request))


@functools.lru_cache(maxsize=1)
def problem_of() -> Problem:
    return state_variants(traced(NODES), NODES)


def shapes(problem: Problem) -> set[tuple[int, int, int]]:
    """Ranks of a pipeline, tensor degree and replicas of every variant."""
    return {(v.pipeline_sizes[0], v.tensor_degree, v.replicas or 0) for v in problem.family}


def test_on_several_nodes_replicas_share_the_batch() -> None:
    """Two key-value heads allow degree 2; seven units allow pipelines of up to four ranks."""
    whole = {(4, 1, 2), (2, 1, 4), (1, 1, 8)}
    assert shapes(problem_of()) == whole | {(4, 2, 1), (2, 2, 2), (1, 2, 4)}


def test_micro_batches_of_a_variant_cut_its_share_of_the_batch() -> None:
    for variant in problem_of().family:
        assert variant.replicas is not None
        batch_bytes = variant.replicas * min(variant.graphs) * variant.graph.input_bytes
        assert batch_bytes == 8 * 2 * 64 * 8  # samples x (tokens and labels) x length x int64


def test_on_one_node_the_batch_is_that_of_a_replica() -> None:
    request = dataclasses.replace(NODES, world_size=4)
    found = traced(request)
    assert [v.replicas for v in found] == [None, None]
    assert [v.graphs[1].tensor_degree for v in found] == [1, 2]


def test_a_model_without_a_plan_keeps_its_layers_whole() -> None:
    found = traced(NODES, "gpt2_tiny")
    assert {g.tensor_degree for v in found for g in v.graphs.values()} == {1}


def test_one_degree_can_be_asked_for() -> None:
    request = dataclasses.replace(NODES, tensor_degree=2)
    assert {next(iter(v.graphs.values())).tensor_degree for v in traced(request)} == {2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensor_degree": 3}, r"tensor.degree is 3 with world_size=8 .* allowed: 1, 2, 4, 8"),
        ({"tensor_degree": 4}, r"4, which does not divide num_key_value_heads=2; allowed: 1, 2"),
        ({"tensor_degree": 0}, r"tensor_degree is 0; allowed: 1 or more, or none"),
        ({"micro_batches": 3}, r"micro_batches is 3; allowed: divisors of the 8 samples"),
    ],
)
def test_what_does_not_fit_the_ranks_is_refused(change: dict[str, int], message: str) -> None:
    request = dataclasses.replace(NODES, **change)
    with pytest.raises(InvalidInputError, match=message):
        traced(request)


@pytest.mark.parametrize("name", ["megatron", "rank_greedy"])
def test_schedulers_choose_among_variants(name: str) -> None:
    problem = problem_of()
    schedule = create(name).propose(problem, 20.0)
    variant = problem.variant_of(schedule)
    ranks, degree = schedule.pipeline.num_ranks, schedule.tensor.degree
    assert ranks * degree * (variant.replicas or 0) == 8
    timeline = simulate(problem, schedule)
    assert timeline.max_peak_bytes <= problem.budget_bytes
    assert timeline.step_time_s >= min(lower_bound_s(v) for v in problem.family)


@pytest.mark.parametrize("place", range(6))
def test_the_policy_plans_any_one_variant(place: int) -> None:
    variant = dataclasses.replace(problem_of().family[place], variants=())
    scheduler = create("learned", evaluations=10)
    assert isinstance(scheduler, TellsOrigin)
    schedule, origin = scheduler.propose_with_origin(variant, 600.0)
    assert origin == ""
    validate(variant, schedule)
    assert simulate(variant, schedule).max_peak_bytes <= variant.budget_bytes


def test_best_answers_for_variants_when_the_time_is_over_before_it_began() -> None:
    problem = problem_of()
    found = create("best").propose(problem, 1e-6)
    timeline = simulate(problem.variant_of(found), found)
    assert timeline.max_peak_bytes <= problem.budget_bytes


def test_megatron_shares_a_model_over_no_more_ranks_than_it_needs() -> None:
    """It fits on one device: all eight are replicas. Less memory: within a node first."""
    whole = create("megatron").propose(problem_of(), 20.0)
    assert (whole.num_devices, whole.tensor.degree) == (1, 1)
    weights = problem_of().graph.parameter_bytes
    shared = create("megatron").propose(problem_of().with_budget(3 * weights), 20.0)
    assert shared.tensor.degree == 2
    assert shared.num_devices == 2


def test_rank_greedy_is_no_slower_than_the_rule() -> None:
    for share in (1.0, 0.04):
        problem = problem_of().with_budget(int(share * 2**30))
        times = [
            simulate(problem, create(name).propose(problem, 20.0)).step_time_s
            for name in ("rank_greedy", "megatron")
        ]
        assert times[0] <= times[1] * (1 + 1e-9)


def test_what_fits_no_variant_is_infeasible() -> None:
    problem = problem_of().with_budget(2**20)
    for name in ("megatron", "rank_greedy"):
        with pytest.raises(InfeasibleError, match="needs at least"):
            create(name).propose(problem, 20.0)


def test_a_plan_says_how_devices_are_shared_out() -> None:
    request = dataclasses.replace(NODES, time_limit_s=4.0)
    plan = make_plan(problem_of(), request)
    assert plan.problem.variants == ()
    assert plan.problem.variant_of(plan.schedule) is plan.problem
    pipeline, degree = plan.schedule.pipeline.num_ranks, plan.schedule.tensor.degree
    replicas = 8 // pipeline // degree
    text = " ".join(summary_sentences(plan.content()))
    assert f"(p={pipeline})" in text
    assert f"(t={degree})" in text
    assert f"(d={replicas})" in text
    assert plan.lower_bound_s <= plan.estimate.step_time_s
