"""The joint environment with everything it is given: models, hardware, costs, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remora.api.bench.traces import pass_spec, traced
from remora.api.hardware import find_hardware
from remora.api.joint_config import JointConfig, joint_config
from remora.api.micro_batches import graphs_at, micro_batch_counts
from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem

if TYPE_CHECKING:
    from remora.envs.drawing import ProblemSpec
    from remora.envs.joint_env import JointEnv
    from remora.envs.plan_tables import PlanTables
    from remora.envs.sampler import JointSampler, ProblemTest
    from remora.graph.model_graph import ModelGraph
    from remora.hardware.hardware import Hardware

__all__ = ["draw_tables", "drawn_problem", "make_env", "make_joint_sampler", "spec_source"]

_MOST_DRAWS = 10
"""Draws for every problem that is wanted."""


def spec_source(spec: ProblemSpec) -> tuple[Mapping[int, ModelGraph], Hardware]:
    """Trace the model of a drawn problem or draw it, and find its hardware.

    Traces are kept on disk, so that a model is traced once at every size.

    Args:
        spec: the drawn problem.

    Returns:
        Graphs by number of micro-batches, and the hardware as new.

    Raises:
        InvalidInputError: the model saves other tensors at the fixed number of micro-batches.
        TraceError: the model could not be traced.
    """
    from remora.envs.drawing import SYNTHETIC
    from remora.envs.synthetic import synthetic_graphs

    ranks, fixed = spec.world_size, spec.micro_batches
    passes = spec.mode == Mode.INFERENCE
    if spec.model == SYNTHETIC:
        counts = micro_batch_counts(spec.batch, ranks, fixed)
        return synthetic_graphs(spec.values, spec.model_seed, counts), _hardware(spec.hardware)
    graphs = graphs_at(
        lambda samples: traced(spec.model, spec.values, samples, passes), spec.batch, ranks, fixed
    )
    return graphs, _hardware(spec.hardware)


def drawn_problem(spec: ProblemSpec) -> Problem:
    """The problem of a drawn specification, with roofline costs.

    Raises:
        InvalidInputError: it does not fit its hardware, or a value is not allowed.
        TraceError: the model could not be traced.
    """
    from remora.envs.building import build_problem

    graphs, hardware = spec_source(spec)
    if spec.mode != Mode.INFERENCE:
        return build_problem(spec, graphs, hardware)
    tokens = (spec.prompt_tokens, spec.generated_tokens)
    return build_problem(
        spec, graphs, hardware, pass_spec(spec.model, spec.values, graphs[1], *tokens)
    )


def draw_tables(
    config: JointConfig, count: int, seed: int, focused: bool = False
) -> tuple[PlanTables, ...]:
    """Draw problems that fit into the free memory of their hardware.

    Args:
        config: what they are drawn from.
        count: how many.
        seed: of the draws.
        focused: whether pipelines that are unlikely to be fast at the drawn budget are left out.

    Raises:
        InvalidInputError: hardly any model fits any hardware.
    """
    from remora.envs.drawing import draw_spec

    found: list[PlanTables] = []
    for number in range(_MOST_DRAWS * count):
        if len(found) == count:
            break
        spec = draw_spec(config.recipe, seed, number)
        try:
            tables = _tables(spec.name, drawn_problem(spec), focused)
        except InvalidInputError:
            # Too large for that hardware, or for that many ranks: another one is drawn.
            continue
        if tables.least_bytes <= tables.problem.hardware.free_memory_bytes:
            found.append(tables)
    if len(found) < count:
        raise InvalidInputError(
            f"num_problems is {count} and {len(found)} of the drawn ones fit into free memory; "
            "allowed: models and hardware that go together"
        )
    return tuple(found)


def _tables(name: str, problem: Problem, focused: bool) -> PlanTables:
    from remora.envs.passes.tables import PassTables
    from remora.envs.problem_tables import ProblemTables

    if problem.mode is Mode.INFERENCE:
        return PassTables(name, problem)
    return ProblemTables(name, problem, focus_bytes=problem.budget_bytes if focused else None)


def make_joint_sampler(
    config: str = "joint",
    num_problems: int = 32,
    seed: int = 0,
    keep: ProblemTest | None = None,
    **values: Any,
) -> JointSampler:
    """Draw problems of the models and hardware of a configuration, with roofline costs.

    Args:
        config: name of a file in ``conf/env``.
        num_problems: how many; each has a hardware state of its own.
        seed: of the draws.
        keep: test that an episode must pass.
        **values: replace single values of that file, for example ``models=["resnet_tiny"]``.

    Raises:
        UnknownNameError: no such file, value, model or hardware.
        InvalidInputError: a value is not allowed.
    """
    from remora.envs.sampler import JointSampler

    chosen = joint_config(config, values)
    problems = draw_tables(chosen, num_problems, seed)
    return JointSampler(problems, chosen.recipe.budgets, keep)


def make_env(
    config: str = "joint",
    num_problems: int = 32,
    seed: int = 0,
    render_mode: str | None = None,
    **values: Any,
) -> JointEnv:
    """Make the environment ``remora/Schedule-v0``.

    Args:
        config: name of a file in ``conf/env``.
        num_problems: how many problems episodes are drawn from.
        seed: of their draws.
        render_mode: ``ansi`` or None.
        **values: replace single values of that file.

    Raises:
        UnknownNameError: no such file, value, model or hardware.
        InvalidInputError: a value is not allowed.
    """
    from remora.envs.joint_env import JointEnv

    sampler = make_joint_sampler(config, num_problems, seed, **values)
    return JointEnv(sampler, joint_config(config, values).size, render_mode)


@lru_cache(maxsize=32)
def _hardware(name: str) -> Hardware:
    return find_hardware(name)
