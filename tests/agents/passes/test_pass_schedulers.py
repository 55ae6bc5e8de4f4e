"""Schedulers of inference against every schedule of small cases, and what holds for all of them."""

from __future__ import annotations

import dataclasses

import pytest

from remora.agents.best import Best
from remora.agents.evaluation import Evaluator
from remora.agents.exact.passes.scheduler import PassMilp, solve_passes
from remora.agents.registry import create, plans_mode, scheduler_names
from remora.errors import InfeasibleError, InvalidInputError
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.pass_space import PassSpace
from remora.schedule.problem import Problem
from remora.simulator.bounds import lower_bound_s
from remora.simulator.simulate import simulate
from tests.agents.passes.cases import NUM_CASES, fastest_s, random_case, with_room
from tests.passes import pass_graph, pass_problem
from tests.problems import cpu_hardware, problem_of, table, toy_graph

LONG_S = 120.0
NAMES = tuple(name for name in scheduler_names() if plans_mode(name, Mode.INFERENCE))
TRAINING_ONLY = tuple(name for name in scheduler_names() if name not in NAMES)
FEW = {"best": {"evaluations": 50}, "pass_search": {"evaluations": 200}}


def language_problem(share: float = 0.4, ranks: int = 1) -> Problem:
    graph = pass_graph("gpt2_tiny")
    sizes = tuple(20_000 * int("." in u.name and "ln" not in u.name) for u in graph.units)
    spec = InferenceSpec(4, 64, 64, 64, sizes)
    costs = table(graph, time_scale=1e-2)
    problem = pass_problem(graph, costs, spec, world_size=ranks, micro_batches=(1, 2))
    return with_room(problem, ranks, share)


@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_the_exact_choice_is_the_best_of_all(seed: int) -> None:
    problem = random_case(seed)
    evaluator = Evaluator(problem, LONG_S, modes=PassMilp.modes)
    solved = solve_passes(PassSpace(problem), evaluator, LONG_S)
    assert solved.step_time_s == pytest.approx(fastest_s(problem))
    assert solved.proven
    assert lower_bound_s(problem) <= solved.step_time_s


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_answers_fit_or_say_what_would(name: str, ranks: int) -> None:
    problem = language_problem(ranks=ranks)
    scheduler = create(name, **FEW.get(name, {}))
    if name == "keep_all":
        with pytest.raises(InfeasibleError) as caught:
            scheduler.propose(problem, LONG_S)
        assert (caught.value.smallest_budget_bytes or 0) > problem.budget_bytes
        return
    schedule = scheduler.propose(problem, LONG_S)
    assert simulate(problem, schedule).max_peak_bytes <= problem.budget_bytes


@pytest.mark.parametrize("name", ["best", "pass_milp", "stream_fewest"])
def test_the_smallest_budget_named_is_one_that_works(name: str) -> None:
    problem = dataclasses.replace(language_problem(), budget_bytes=1000)
    with pytest.raises(InfeasibleError) as caught:
        create(name, **FEW.get(name, {})).propose(problem, LONG_S)
    smallest = caught.value.smallest_budget_bytes
    assert smallest is not None
    enough = dataclasses.replace(problem, budget_bytes=smallest)
    schedule = create(name, **FEW.get(name, {})).propose(enough, LONG_S)
    assert simulate(enough, schedule).max_peak_bytes <= smallest


def test_nothing_waits_on_the_host_where_everything_fits() -> None:
    problem = language_problem(1.0)
    for name in ("stream_fewest", "pass_milp", "pass_search"):
        schedule = create(name, **FEW.get(name, {})).propose(problem, LONG_S)
        assert not schedule.state.streamed_units
        assert not schedule.state.host_caches


def test_best_is_never_worse_than_its_members() -> None:
    problem = language_problem()
    best = Best(evaluations=50)
    members = best.members_for(problem)
    # The policy is worth its time in pipelines only.
    assert set(members) == set(NAMES) - {"best", "learned"}
    several = dataclasses.replace(problem, world_size=2)
    assert set(best.members_for(several)) == set(NAMES) - {"best"}
    schedule, candidates = best.propose_with_candidates(problem, LONG_S)
    fitting = [c.step_time_s for c in candidates if c.feasible and c.step_time_s is not None]
    assert simulate(problem, schedule).step_time_s <= min(fitting) * (1 + 1e-9)


@pytest.mark.parametrize("name", [name for name in TRAINING_ONLY if name != "learned"])
def test_schedulers_of_training_refuse_inference(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"mode is 'inference' and .* allowed: 'train'"):
        create(name).propose(language_problem(), LONG_S)


@pytest.mark.parametrize("name", ["stream_all", "stream_fewest", "pass_milp", "pass_search"])
def test_schedulers_of_inference_refuse_training(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"mode is 'train' and .* allowed: 'inference'"):
        create(name).propose(problem_of(toy_graph()), LONG_S)


def test_without_a_host_only_what_stays_is_planned() -> None:
    problem = pass_problem(hardware=cpu_hardware("none"))
    assert create("stream_fewest").propose(problem, LONG_S).state.streamed_units == ()
    tight = dataclasses.replace(problem, budget_bytes=1000)
    with pytest.raises(InfeasibleError):
        create("stream_fewest").propose(tight, LONG_S)
