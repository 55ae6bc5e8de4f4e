"""Configurations of the joint environment, and problems drawn from them."""

from __future__ import annotations

import pytest

from remora.api.bench.suite import load_suite
from remora.api.configs import config_names, load_config
from remora.api.joint_config import joint_config
from remora.api.joint_environment import draw_tables, spec_source
from remora.envs.building import build_problem
from remora.envs.drawing import SYNTHETIC, draw_spec
from remora.errors import InvalidInputError, UnknownNameError

CONFIGS = tuple(name for name in config_names("env") if name.startswith("joint"))


def families(models: set[str]) -> set[str]:
    """Functions that build models: a tiny model is of the family of the large one."""
    return {str(load_config("model", name)["target"]) for name in models - {SYNTHETIC}}


@pytest.mark.parametrize("name", CONFIGS)
def test_no_agent_sees_a_family_that_is_held_out(name: str) -> None:
    drawn = {choice.model for choice in joint_config(name).recipe.models}
    held_out = {problem.model for problem in load_suite("held_out").problems}
    assert not families(drawn) & families(held_out)


def test_training_and_validation_share_no_family() -> None:
    drawn = [
        families({choice.model for choice in joint_config(name).recipe.models})
        for name in ("joint", "joint_validation")
    ]
    assert not drawn[0] & drawn[1]


def test_most_drawn_problems_are_pipelines_over_pcie_with_tight_budgets() -> None:
    recipe = joint_config("joint").recipe
    specs = [draw_spec(recipe, 0, number) for number in range(400)]
    assert 0.5 < sum(spec.world_size >= 4 for spec in specs) / 400 < 0.75
    assert sum(0.02 <= spec.range <= 0.4 for spec in specs) > 350
    pcie = {"8xl4", "8xa100_pcie", "8xrtx4090"}
    pipelines = [spec for spec in specs if spec.world_size > 1]
    assert sum(spec.hardware in pcie for spec in pipelines) > 0.75 * len(pipelines)


def test_synthetic_problems_are_built_without_tracing() -> None:
    config = joint_config(
        values={
            "models": [
                {"model": SYNTHETIC, "values": {"batch": [32], "units": [12], "form": ["even"]}}
            ],
            "world_sizes": {4: 1},
            "devices": {},
        }
    )
    spec = draw_spec(config.recipe, 0, 0)
    problem = build_problem(spec, *spec_source(spec))
    assert len(problem.graph.units) == 12
    assert max(problem.graphs) >= 4


@pytest.mark.slow
def test_tables_are_drawn_until_there_are_enough() -> None:
    config = joint_config("joint_one_model", {"models": ["resnet_tiny"]})
    first, second = draw_tables(config, 2, 0)
    assert first.name != second.name
    for tables in (first, second):
        assert tables.least_bytes <= tables.problem.hardware.free_memory_bytes


def test_bad_values_are_named() -> None:
    with pytest.raises(UnknownNameError, match="budget_lo"):
        joint_config(values={"budget_lo": 0.1})
    with pytest.raises(UnknownNameError, match="8xl5"):
        joint_config(values={"clusters": {"8xl5": 1}})
    with pytest.raises(UnknownNameError, match="gpt3"):
        joint_config(values={"models": ["gpt3"]})
    with pytest.raises(UnknownNameError, match="wheight"):
        joint_config(values={"models": [{"model": "gpt2", "wheight": 2}]})
    with pytest.raises(InvalidInputError, match=r"env\.models is 'gpt2'; allowed: a list"):
        joint_config(values={"models": "gpt2"})
    with pytest.raises(
        InvalidInputError, match=r"env\.models holds 3; allowed: names, or mappings"
    ):
        joint_config(values={"models": [3]})
    with pytest.raises(InvalidInputError, match=r"env\.spread is 0\.5; allowed: two numbers"):
        joint_config(values={"spread": 0.5})
    with pytest.raises(InvalidInputError, match=r"env\.devices is 'h100_sxm'; allowed: names with"):
        joint_config(values={"devices": "h100_sxm"})
    with pytest.raises(UnknownNameError, match="unknown key in env 'joint' 'hardware'"):
        joint_config(values={"hardware": []})
    with pytest.raises(InvalidInputError, match=r"env\.mode is 'sleep'; allowed: 'train', 'infer"):
        joint_config(values={"mode": "sleep"})
    with pytest.raises(InvalidInputError, match=r"tokens of model 'gpt2' hold \(3,\); allowed: p"):
        joint_config(values={"models": [{"model": "gpt2", "tokens": [[3]]}]})


def test_problems_of_passes_are_drawn_with_tokens_and_a_cache() -> None:
    model = {"model": "gpt2_tiny", "values": {"batch": [4]}, "tokens": [[16, 8]]}
    config = joint_config("passes", {"models": [model], "world_sizes": {1: 1}})
    (tables,) = draw_tables(config, 1, 0)
    spec = tables.problem.inference
    assert spec is not None
    assert (spec.prompt_tokens, spec.generated_tokens) == (16, 8)
    assert sum(spec.cache_bytes) > 0
    assert tables.problem.budget_bytes < tables.keep_all_bytes
