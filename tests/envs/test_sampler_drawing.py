"""Drawn problems: what they are drawn from, and what is built from them."""

from __future__ import annotations

import collections
import dataclasses

import pytest

from remora.envs.building import build_problem, range_bytes
from remora.envs.drawing import BudgetDraw, ModelChoice, ProblemSpec, Recipe, draw_spec
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from tests.envs.problems import graph_of
from tests.problems import cpu_hardware

RECIPE = Recipe(
    models=(
        ModelChoice("gpt2_tiny", {"batch": [16, 64], "layers": [2, 3]}, 3.0),
        ModelChoice("bert_tiny", {"batch": [8]}),
    ),
    devices={"small": 1.0, "large": 1.0},
    clusters={"many": 1.0},
    world_sizes={1: 1.0, 4: 2.0, 16: 1.0},
    optimizers={"adamw": 4.0, "sgd": 1.0},
    varied=0.5,
    spread=(0.1, 0.3),
)


def drawn(count: int = 200, seed: int = 0) -> list[ProblemSpec]:
    return [draw_spec(RECIPE, seed, number) for number in range(count)]


def built(spec: ProblemSpec) -> Problem:
    graph = graph_of("toy")
    hardware = cpu_hardware(device_type="cuda")
    return build_problem(spec, dict.fromkeys((1, 2, 4, 8), graph), hardware)


def test_draws_follow_their_weights_and_stay_in_their_ranges() -> None:
    specs = drawn()
    sizes = collections.Counter(spec.world_size for spec in specs)
    assert set(sizes) == {1, 4, 16}
    assert sizes[4] > sizes[1]
    assert all((spec.hardware == "many") == (spec.world_size > 1) for spec in specs)
    models = collections.Counter(spec.model for spec in specs)
    assert models["gpt2_tiny"] > 2 * models["bert_tiny"] > 0
    assert {spec.values.get("layers") for spec in specs} == {2, 3, None}
    assert all(0.5 <= spec.free_memory_share <= 1.0 for spec in specs)
    for name in ("host_link_share", "link_share"):
        shares = [getattr(spec, name) for spec in specs]
        assert 0.3 <= min(shares) < 0.4
        assert 0.9 < max(shares) <= 1.0
    spreads = [spec.spread for spec in specs if spec.spread]
    assert 60 < len(spreads) < 140
    assert all(0.1 <= spread <= 0.3 for spread in spreads)


def test_half_of_the_problems_fix_a_number_that_fills_the_ranks_and_divides_the_batch() -> None:
    fixed = [spec for spec in drawn() if spec.micro_batches is not None]
    assert 70 < len(fixed) < 130
    for spec in fixed:
        assert spec.micro_batches is not None
        assert spec.batch % spec.micro_batches == 0
        assert spec.micro_batches % spec.world_size == 0
        assert spec.micro_batches <= 4 * max(spec.world_size, 2)


def test_a_number_and_a_seed_draw_one_problem() -> None:
    assert drawn(5) == drawn(9)[:5]
    assert drawn(5) != drawn(5, seed=1)
    names = {spec.name for spec in drawn()}
    assert len(names) == 200


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_problem_is_built_with_its_state_and_its_budget(world_size: int) -> None:
    spec = dataclasses.replace(
        drawn(1)[0], world_size=world_size, micro_batches=None, range=0.25, spread=0.0
    )
    problem = built(spec)
    whole = cpu_hardware(device_type="cuda").free_memory_bytes
    assert problem.hardware.free_memory_bytes == int(spec.free_memory_share * whole)
    assert problem.hardware.state is not None
    assert problem.hardware.state.link_share == spec.link_share
    assert problem.cost.d2h_bytes_per_s == pytest.approx(1e9 * spec.host_link_share)
    low, high = range_bytes(problem)
    assert 0 <= problem.budget_bytes - (low + 0.25 * (high - low)) <= 1
    assert problem.world_size == world_size


def test_a_spread_redraws_the_graphs() -> None:
    plain = dataclasses.replace(drawn(1)[0], world_size=1, micro_batches=None, spread=0.0)
    varied = dataclasses.replace(plain, spread=0.5, model_seed=3)
    assert built(plain).graph == graph_of("toy")
    assert built(varied).graph != graph_of("toy")
    assert built(varied).graph.content_hash == built(varied).graph.content_hash


def test_a_budget_beyond_free_memory_and_too_many_ranks_are_refused() -> None:
    spec = dataclasses.replace(drawn(1)[0], world_size=1, micro_batches=None)
    tiny = dataclasses.replace(cpu_hardware(), memory_bytes=1000)
    with pytest.raises(InvalidInputError, match=r"has a budget of \d+ bytes; allowed: up to the"):
        build_problem(spec, {1: graph_of("toy")}, tiny)
    with pytest.raises(InvalidInputError, match="world_size is 64 and the model has"):
        built(dataclasses.replace(spec, world_size=64))


def test_bad_recipes_are_named() -> None:
    models = RECIPE.models
    with pytest.raises(InvalidInputError, match=r"models is \{\}; allowed: names with weights"):
        Recipe((), {"small": 1.0})
    with pytest.raises(InvalidInputError, match=r"devices is \{'small': 0\}; allowed"):
        Recipe(models, {"small": 0})
    with pytest.raises(InvalidInputError, match=r"clusters is \{\}; allowed"):
        Recipe(models, {"small": 1.0}, world_sizes={2: 1.0})
    with pytest.raises(InvalidInputError, match="optimizers holds 'sgdm'; allowed: adamw"):
        Recipe(models, {"small": 1.0}, optimizers={"sgdm": 1.0})
    with pytest.raises(InvalidInputError, match="fixed is 2; allowed: 0 to 1"):
        Recipe(models, {"small": 1.0}, fixed=2)
    with pytest.raises(InvalidInputError, match="spread is \\(1, 0\\); allowed: two numbers"):
        Recipe(models, {"small": 1.0}, spread=(1, 0))
    with pytest.raises(InvalidInputError, match="batch of model 'x' is 8; allowed: a list"):
        ModelChoice("x", {"batch": 8})
    with pytest.raises(InvalidInputError, match=r"name of a problem is '\.\./x'; allowed: letters"):
        dataclasses.replace(drawn(1)[0], name="../x")
    odd = Recipe((ModelChoice("x", {"batch": [7]}),), {}, {"c": 1.0}, {2: 1.0})
    with pytest.raises(InvalidInputError, match="batches that no number of ranks divides"):
        draw_spec(odd, 0, 0)
    with pytest.raises(InvalidInputError, match=r"0\.4 to 0\.2; allowed: 0 <= low <= high"):
        BudgetDraw(0.4, 0.2)
