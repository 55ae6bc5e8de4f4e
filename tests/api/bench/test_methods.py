from __future__ import annotations

import pytest

from remora.agents.heuristics.local_search import LocalSearch
from remora.api.bench.methods import MethodRun, method_runs, read_methods
from remora.errors import InvalidInputError, UnknownNameError


def test_names_and_settings() -> None:
    methods = read_methods(["greedy", {"name": "local_search", "evaluations": 50}, "local_search"])
    assert [method.label for method in methods] == [
        "greedy",
        "local_search(evaluations=50)",
        "local_search",
    ]


def test_only_what_draws_numbers_runs_with_every_seed() -> None:
    methods = read_methods(["greedy", "local_search", {"name": "random", "seed": 3}])
    runs = [(run.method.name, run.seed) for run in method_runs(methods, [0, 1, 1])]
    assert runs == [("greedy", None), ("local_search", 0), ("local_search", 1), ("random", None)]


def test_the_seed_reaches_the_scheduler() -> None:
    (method,) = read_methods([{"name": "local_search", "evaluations": 50}])
    scheduler = MethodRun(method, 7).create()
    assert scheduler == LocalSearch(evaluations=50, seed=7)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "methods is .*; allowed: a list"),
        ("greedy", "methods is 'greedy'; allowed: a list"),
        ([3], "methods holds 3; allowed: names of agents"),
        ([{"evaluations": 3}], "allowed: names of agents, or mappings"),
        (["greedy", "greedy"], "methods names 'greedy' more than once"),
        ([{"name": "local_search", "evaluations": -1}], "evaluations is -1"),
    ],
)
def test_other_forms_are_refused(entries: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_methods(entries)  # type: ignore[arg-type]


def test_unknown_names_get_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="unknown agent 'gredy': did you mean 'greedy'"):
        read_methods(["gredy"])
    with pytest.raises(UnknownNameError, match="did you mean 'evaluations'"):
        read_methods([{"name": "local_search", "evaluation": 5}])


@pytest.mark.parametrize("seeds", [[], [-1], [0.5], [True]])
def test_seeds_are_numbers_from_zero(seeds: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="seeds"):
        method_runs(read_methods(["greedy"]), seeds)
