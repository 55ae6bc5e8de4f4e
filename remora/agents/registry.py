"""Every scheduler by name; adding one is its own file and one line here."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import cast

from remora.agents.scheduler import Scheduler
from remora.errors import InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode

__all__ = [
    "SCHEDULERS",
    "create",
    "not_ready",
    "plans_mode",
    "plans_one_device",
    "scheduler_names",
    "settings_of",
]

SCHEDULERS: Mapping[str, str] = MappingProxyType(
    {
        "annealing": "remora.agents.heuristics.annealing:Annealing",
        "balanced": "remora.agents.heuristics.balanced:Balanced",
        "best": "remora.agents.best:Best",
        "chen_sqrt": "remora.agents.heuristics.chen_sqrt:ChenSqrt",
        "cp_sat": "remora.agents.exact.menus.cp_sat:CpSat",
        "dtr": "remora.agents.heuristics.dtr:Dtr",
        "floor": "remora.agents.heuristics.floor:Floor",
        "greedy": "remora.agents.heuristics.greedy:Greedy",
        "greedy_variants": "remora.agents.heuristics.greedy_variants:GreedyVariants",
        "keep_all": "remora.agents.heuristics.keep_all:KeepAll",
        "learned": "remora.agents.learned.scheduler:Learned",
        "local_search": "remora.agents.heuristics.local_search:LocalSearch",
        "megatron": "remora.agents.heuristics.megatron:Megatron",
        "milp": "remora.agents.exact.menus.milp:Milp",
        "offload_all": "remora.agents.heuristics.offload_all:OffloadAll",
        "offload_only": "remora.agents.heuristics.single_lever:OffloadOnly",
        "partition": "remora.agents.exact.partition.scheduler:PartitionPlanner",
        "pass_milp": "remora.agents.exact.passes.scheduler:PassMilp",
        "pass_search": "remora.agents.heuristics.passes.search:PassSearch",
        "pipeline_only": "remora.agents.heuristics.single_lever:PipelineOnly",
        "random": "remora.agents.heuristics.random_plans:RandomPlans",
        "rank_greedy": "remora.agents.heuristics.rank_greedy:RankGreedy",
        "recompute_all": "remora.agents.heuristics.recompute_all:RecomputeAll",
        "recompute_offload": "remora.agents.exact.chains.offload_scheduler:RecomputeOffload",
        "recompute_only": "remora.agents.heuristics.single_lever:RecomputeOnly",
        "rotor": "remora.agents.exact.chains.rotor_scheduler:Rotor",
        "selective": "remora.agents.heuristics.selective:Selective",
        "stream_all": "remora.agents.heuristics.passes.stream_all:StreamAll",
        "stream_fewest": "remora.agents.heuristics.passes.stream_fewest:StreamFewest",
        "weight_streaming": "remora.agents.exact.weights.scheduler:WeightStreaming",
    }
)
"""Name to ``module:class``; a class is imported when it is asked for."""

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        "int": ((int,), "a whole number"),
        "float": ((int, float), "a number"),
        "bool": ((bool,), "true or false"),
        "str": ((str,), "a text"),
    }
)
"""Kinds of settings by their annotation, and what to call them."""


def scheduler_names() -> tuple[str, ...]:
    """Names of all schedulers, sorted."""
    return tuple(sorted(SCHEDULERS))


def create(name: str, **values: object) -> Scheduler:
    """Make a scheduler.

    Args:
        name: one of :func:`scheduler_names`.
        values: settings of that scheduler; the rest keep their defaults.

    Raises:
        UnknownNameError: no such scheduler, or it has no such setting.
        InvalidInputError: a setting has a value that is not allowed.
    """
    parameters = inspect.signature(_factory(name)).parameters
    for key, value in values.items():
        if key not in parameters:
            raise UnknownNameError(f"setting of agent {name!r}", key, parameters)
        _check_kind(f"agent.{key}", value, str(parameters[key].annotation))
    return cast(Scheduler, _factory(name)(**values))


def _check_kind(field: str, value: object, annotation: str) -> None:
    """Refuse a text for a number and the like; annotations of other kinds allow everything."""
    if annotation not in _KINDS:
        return
    kinds, words = _KINDS[annotation]
    if not isinstance(value, kinds) or (isinstance(value, bool) and annotation != "bool"):
        raise InvalidInputError(f"{field} is {value!r}; allowed: {words}")
    if field == "agent.seed" and isinstance(value, int) and value < 0:
        raise InvalidInputError(f"{field} is {value!r}; allowed: whole numbers from 0")


def settings_of(name: str) -> tuple[str, ...]:
    """Names of the settings of a scheduler.

    Raises:
        UnknownNameError: no such scheduler.
    """
    return tuple(inspect.signature(_factory(name)).parameters)


def plans_one_device(name: str) -> bool:
    """Whether a scheduler refuses problems of several ranks: its class has ``one_device = True``.

    Raises:
        UnknownNameError: no such scheduler.
    """
    return bool(getattr(_factory(name), "one_device", False))


def not_ready(name: str) -> str:
    """Why a scheduler would have to prepare for long before its first plan; empty if it is ready.

    Raises:
        UnknownNameError: no such scheduler.
    """
    reason: Callable[[], str] = getattr(_factory(name), "not_ready", lambda: "")
    return reason()


def plans_mode(name: str, mode: Mode) -> bool:
    """Whether a scheduler plans problems of a mode: its class names others than training.

    Args:
        name: one of :func:`scheduler_names`.
        mode: training or inference.

    Raises:
        UnknownNameError: no such scheduler.
    """
    modes: Collection[Mode] = getattr(_factory(name), "modes", (Mode.TRAIN,))
    return mode in modes


def plans_variants(name: str, mode: Mode) -> bool:
    """Whether a scheduler chooses among variants of a problem: its class says so, in training.

    Raises:
        UnknownNameError: no such scheduler.
    """
    return mode is Mode.TRAIN and bool(getattr(_factory(name), "plans_variants", False))


def _factory(name: str) -> Callable[..., object]:
    if name not in SCHEDULERS:
        raise UnknownNameError("agent", name, SCHEDULERS)
    module, _, attribute = SCHEDULERS[name].partition(":")
    return cast(Callable[..., object], getattr(importlib.import_module(module), attribute))
