from __future__ import annotations

import json
from collections import Counter

import pytest

from remora.agents.registry import create
from remora.api.bench.best_known import best_known_path, read_best_known
from remora.api.bench.build import build_problem, problem_hash
from remora.api.bench.compact import compact_schedule, full_schedule, graph_of
from remora.api.bench.suite import Suite, SuiteProblem, load_suite, suite_from_values
from remora.api.configs import config_names, load_config
from remora.api.hardware import find_hardware
from remora.errors import InvalidInputError, UnknownNameError

SUITES = {name: load_suite(name) for name in config_names("suite")}
TRAINED_ON = {"gpt2", "gpt2_medium", "llama_1b", "qwen3_0_6b", "vit_base"}
CHOSEN_ON = {"bert_base", "resnet50", "resnet101"}
HELD_OUT = {
    "t5_small",
    "swin_tiny",
    "convnext_tiny",
    "unet",
    "fno2d",
    "mamba2_130m",
    "climate_unet",
}


def models_of(suite: Suite) -> set[str]:
    return {problem.model for problem in suite.problems}


def test_the_suites_are_those_of_the_design() -> None:
    named = {"train", "validation", "held_out", "pipeline", "single", "smoke", "inference"}
    assert set(SUITES) == named | {"cluster"}
    assert all(name == suite.name and suite.about for name, suite in SUITES.items())
    assert all(1 <= len(suite.problems) <= 100 for suite in SUITES.values())
    sizes = {name: len(suite.problems) for name, suite in SUITES.items()}
    assert sizes["pipeline"] >= 48
    assert sizes["held_out"] >= 36
    assert sizes["single"] >= 36
    assert sizes["validation"] >= 20


def test_nothing_is_learned_or_chosen_on_what_is_held_out() -> None:
    assert models_of(SUITES["train"]) == TRAINED_ON
    assert models_of(SUITES["validation"]) == CHOSEN_ON
    for name in ("held_out", "pipeline", "single"):
        assert models_of(SUITES[name]) == HELD_OUT


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_problem_can_be_stated(name: str) -> None:
    for problem in SUITES[name].problems:
        values = {**load_config("model", problem.model)["values"], **problem.values}
        assert set(values) == set(load_config("model", problem.model)["values"])
        assert problem.budget_bytes <= find_hardware(problem.hardware).free_memory_bytes
        assert 0 < problem.range < 1
        if problem.micro_batches is not None:
            assert values["batch"] % problem.micro_batches == 0


def test_pipelines_are_where_the_study_puts_them() -> None:
    problems = SUITES["pipeline"].problems
    assert {problem.world_size for problem in problems} == {4, 8, 16}
    assert all(0.02 <= problem.range <= 0.4 for problem in problems)
    fixed = sum(problem.micro_batches is not None for problem in problems)
    assert len(problems) / 3 <= fixed <= len(problems) * 2 / 3
    for problem in problems:
        # Between ranks at most the rate of PCIe 4.0 x16.
        assert find_hardware(problem.hardware).link.bandwidth_bytes_per_s <= 31.5e9


def test_clusters_have_several_nodes_that_share_a_batch() -> None:
    problems = SUITES["cluster"].problems
    assert all(problem.global_batch for problem in problems)
    for problem in problems:
        assert problem.world_size > find_hardware(problem.hardware).devices_per_node
    others = [p for name, suite in SUITES.items() if name != "cluster" for p in suite.problems]
    assert not any(problem.global_batch for problem in others)


def test_a_cluster_problem_leaves_degrees_and_replicas_open() -> None:
    item = SuiteProblem(
        "a", "vit_tiny", {"batch": 8}, "4xa100", 8, None, 2**30, 0.5, global_batch=True
    )
    problem = build_problem(item)
    shapes = {(v.tensor_degree, v.replicas) for v in problem.family}
    assert {(1, 8), (4, 2), (2, 1)} <= shapes
    hashes = {problem_hash(variant) for variant in problem.family}
    assert len(hashes) == len(problem.family)
    schedule = create("megatron").propose(problem, 20.0)
    compact = compact_schedule(schedule)
    assert full_schedule(compact, graph_of(compact, problem)) == schedule


def test_single_devices_stay_single() -> None:
    problems = SUITES["single"].problems
    assert {problem.world_size for problem in problems} == {1}
    assert min(problem.range for problem in problems) == 0.05
    assert max(problem.range for problem in problems) == 0.8
    hosts = Counter(problem.hardware for problem in problems)
    assert hosts["gh200"] < len(problems) / 4


def test_other_suites_mix_numbers_of_devices() -> None:
    for name in ("train", "validation", "held_out"):
        sizes = {problem.world_size for problem in SUITES[name].problems}
        assert 1 in sizes
        assert max(sizes) >= 8


@pytest.mark.parametrize("name", sorted(SUITES))
def test_digests_tell_problems_apart(name: str) -> None:
    problems = SUITES[name].problems
    assert len({problem.digest for problem in problems}) == len(problems)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_best_known_answers_are_of_problems_of_the_suite(name: str) -> None:
    names = {problem.name for problem in SUITES[name].problems}
    budgets = {problem.name: problem.budget_bytes for problem in SUITES[name].problems}
    for problem, answer in read_best_known(best_known_path(name)).items():
        assert problem in names
        assert answer.peak_bytes <= budgets[problem]
        assert json.loads(json.dumps(answer.schedule)) == answer.schedule


GOOD = {
    "name": "a",
    "model": "gpt2_tiny",
    "values": {"batch": 8},
    "hardware": "rtx3090",
    "world_size": 1,
    "micro_batches": None,
    "budget_bytes": 1,
    "range": 0.5,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gtp2_tiny"}, "unknown model of problem 'a' 'gtp2_tiny': did you mean"),
        ({"hardware": "rtx309"}, "unknown hardware of problem 'a' 'rtx309': did you mean"),
        ({"budget_byte": 1}, "did you mean 'budget_bytes'"),
        ({"budget_bytes": 0}, "budget_bytes of problem 'a' is 0; allowed: integers above 0"),
        ({"world_size": 1.5}, "world_size of problem 'a' is 1.5; allowed"),
        ({"micro_batches": 0}, "micro_batches of problem 'a' is 0; allowed"),
    ],
)
def test_what_cannot_be_stated_is_refused(change: dict[str, object], message: str) -> None:
    suite_from_values({"name": "s", "problems": [GOOD]})
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        suite_from_values({"name": "s", "problems": [{**GOOD, **change}]})


def test_a_suite_needs_problems_with_names_of_their_own() -> None:
    lacking = {key: value for key, value in GOOD.items() if key != "range"}
    for problems, message in (
        ([], "suite 's' has 0 problems; allowed: a list of 1 to 100"),
        (None, "suite 's' has None problems"),
        ([GOOD] * 101, "suite 's' has 101 problems"),
        ([GOOD, GOOD], "suite 's' names 'a' 2 times"),
        ([lacking], "a problem of suite 's' lacks 'range'"),
        (["a"], "suite 's' holds 'a'; allowed: mappings"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            suite_from_values({"name": "s", "problems": problems})
