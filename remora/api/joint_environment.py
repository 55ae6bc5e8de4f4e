"""The joint environment with everything it is given: models, hardware, costs, budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.api.environment import env_config, make_cases
from remora.api.hardware import find_hardware
from remora.api.problem import find_optimizer

if TYPE_CHECKING:
    from remora.envs.joint.joint_env import JointEnv
    from remora.envs.joint.sampler import JointSampler

__all__ = ["make_joint_env", "make_joint_sampler"]


def make_joint_sampler(
    config: str = "schedule", num_problems: int = 32, seed: int = 0, **values: Any
) -> JointSampler:
    """Draw problems of the models and hardware of a configuration, with roofline costs.

    Args:
        config: name of a file in ``conf/env``.
        num_problems: how many; each has a hardware state of its own.
        seed: of the draws.
        **values: replace single values of that file, for example ``models=["resnet_tiny"]``.

    Raises:
        UnknownNameError: no such file, value, model or hardware.
        InvalidInputError: a value is not allowed.
    """
    from remora.cost_models.roofline import roofline_costs
    from remora.envs.joint.sampler import BudgetDraw, JointSampler, draw_problems

    chosen = env_config(config, values)
    cases = make_cases(chosen.models, chosen.hardware[:1], chosen.optimizer)
    problems = draw_problems(
        {case.name.split("/")[0]: case.problem.graphs for case in cases},
        [find_hardware(name) for name in chosen.hardware],
        lambda graph, hardware: roofline_costs(graph, hardware, chosen.optimizer),
        find_optimizer(chosen.optimizer),
        num_problems,
        seed,
    )
    return JointSampler(problems, BudgetDraw(chosen.budget_low, chosen.budget_high))


def make_joint_env(
    config: str = "schedule",
    num_problems: int = 32,
    seed: int = 0,
    render_mode: str | None = None,
    **values: Any,
) -> JointEnv:
    """Make the environment ``remora/JointSchedule-v0``.

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
    from remora.envs.joint.joint_env import JointEnv
    from remora.envs.joint.observation import JointSize

    chosen = env_config(config, values)
    sampler = make_joint_sampler(config, num_problems, seed, **values)
    return JointEnv(sampler, JointSize(chosen.max_units, chosen.max_edges), render_mode)
