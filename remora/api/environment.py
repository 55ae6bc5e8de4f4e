"""The environment with everything it is given: models, hardware, costs, budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remora.api.configs import load_config
from remora.api.hardware import find_hardware
from remora.api.model_source import named_source
from remora.api.problem import find_optimizer
from remora.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from remora.envs.observation import ObservationSize
    from remora.envs.sampler import ProblemSampler
    from remora.envs.schedule_env import ScheduleEnv
    from remora.envs.tables import Case
    from remora.graph.model_graph import ModelGraph

__all__ = ["EnvConfig", "env_config", "make_cases", "make_env", "make_sampler"]


@dataclass(frozen=True)
class EnvConfig:
    """Values of ``conf/env``.

    Attributes:
        models: names of ``conf/model``.
        hardware: names of ``conf/hardware``; every model is planned on each.
        budget_low, budget_high: bounds of the budget, 0 the least memory, 1 keep all.
        optimizer: what keeps optimizer state.
        max_units, max_edges: how far observations are padded.
    """

    models: tuple[str, ...]
    hardware: tuple[str, ...]
    budget_low: float
    budget_high: float
    optimizer: str
    max_units: int
    max_edges: int

    def __post_init__(self) -> None:
        """Make lists tuples and refuse empty ones."""
        for name in ("models", "hardware"):
            value = getattr(self, name)
            if isinstance(value, str) or not value:
                raise InvalidInputError(f"env.{name} is {value!r}; allowed: a list of names")
            object.__setattr__(self, name, tuple(value))

    @property
    def size(self) -> ObservationSize:
        """How far observations are padded."""
        from remora.envs.observation import ObservationSize

        return ObservationSize(self.max_units, self.max_edges)


def env_config(name: str = "schedule", values: Mapping[str, Any] | None = None) -> EnvConfig:
    """Return a configuration of ``conf/env`` with some values replaced.

    Args:
        name: name of its file.
        values: replacements.

    Raises:
        UnknownNameError: no such file or value.
        InvalidInputError: a value is not allowed.
    """
    known = [field.name for field in fields(EnvConfig)]
    for key in values or {}:
        if key not in known:
            raise UnknownNameError("key in env", key, known)
    merged = {**load_config("env", name), **(values or {})}
    return EnvConfig(**{key: merged[key] for key in known})


def make_cases(models: Sequence[str], hardware: Sequence[str], optimizer: str) -> tuple[Case, ...]:
    """Trace models and give them roofline costs on every hardware.

    Args:
        models: names of ``conf/model``; each is traced once per process.
        hardware: names of ``conf/hardware``.
        optimizer: what keeps optimizer state.

    Returns:
        One case per model and hardware, named ``model/hardware``.
    """
    from remora.cost_models.roofline import roofline_costs
    from remora.envs.tables import Case
    from remora.schedule.problem import Problem

    spec = find_optimizer(optimizer)
    cases = []
    for model in models:
        graph = _traced(model)
        for name in hardware:
            record = find_hardware(name)
            costs = roofline_costs(graph, record, optimizer)
            problem = Problem({1: graph}, {1: costs}, record, spec, record.free_memory_bytes)
            cases.append(Case(f"{model}/{name}", problem))
    return tuple(cases)


def make_sampler(config: EnvConfig) -> ProblemSampler:
    """Return the sampler of problems that a configuration describes."""
    from remora.cost_models.simulated import SimulatedCostModel
    from remora.envs.sampler import BudgetRange, ProblemSampler

    return ProblemSampler(
        make_cases(config.models, config.hardware, config.optimizer),
        BudgetRange(config.budget_low, config.budget_high),
        SimulatedCostModel("roofline"),
    )


def make_env(
    config: str = "schedule", render_mode: str | None = None, **values: Any
) -> ScheduleEnv:
    """Make the environment ``remora/Schedule-v0``.

    Args:
        config: name of a file in ``conf/env``.
        render_mode: ``ansi`` or None.
        **values: replace single values of that file, for example ``models=["resnet_tiny"]``.

    Raises:
        UnknownNameError: no such file, value, model or hardware.
        InvalidInputError: a value is not allowed.
    """
    from remora.envs.schedule_env import ScheduleEnv

    chosen = env_config(config, values)
    return ScheduleEnv(make_sampler(chosen), chosen.size, render_mode)


@lru_cache(maxsize=64)
def _traced(model: str) -> ModelGraph:
    from remora.graph.trace import trace

    example = named_source(model).build_for_tracing()
    return trace(example.model, example.example_inputs, loss=example.loss, model_name=model)
