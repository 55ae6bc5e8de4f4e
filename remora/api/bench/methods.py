"""The methods of a comparison: schedulers with settings, run once per seed where they have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from remora.agents.registry import create, settings_of
from remora.agents.scheduler import Scheduler
from remora.api.bench.lists import check_entries, check_once
from remora.errors import InvalidInputError, MissingExtraError

__all__ = ["Method", "MethodRun", "method_runs", "read_methods"]

_SEED = "seed"


@dataclass(frozen=True)
class Method:
    """A scheduler with settings of its own.

    Attributes:
        name: in the registry.
        settings: arguments; the rest keep their defaults.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How tables and rows call it."""
        if not self.settings:
            return self.name
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in sorted(self.settings.items()))})"

    @property
    def seeded(self) -> bool:
        """Whether its answer depends on a seed that is open."""
        return _SEED not in self.settings and _SEED in settings_of(self.name)


@dataclass(frozen=True)
class MethodRun:
    """One run of a method on a problem.

    Attributes:
        method: what runs.
        seed: None where the method has none.
    """

    method: Method
    seed: int | None

    def create(self) -> Scheduler:
        """Make the scheduler.

        Raises:
            UsageError: see :func:`remora.agents.registry.create`.
        """
        settings = dict(self.method.settings)
        if self.seed is not None:
            settings[_SEED] = self.seed
        return create(self.method.name, **settings)


def read_methods(entries: Sequence[Any]) -> tuple[Method, ...]:
    """Read methods: names, or mappings with a ``name`` and settings.

    A method whose extra is not installed is kept: its rows say so.

    Raises:
        UnknownNameError: no such scheduler or setting; the message names the closest ones.
        InvalidInputError: an entry of another form, a value that is not allowed, or the same
            method twice.
    """
    check_entries("methods", entries, "[greedy,best]")
    methods = tuple(map(_method, entries))
    check_once("methods", [method.label for method in methods])
    return methods


def method_runs(methods: Sequence[Method], seeds: Sequence[int]) -> tuple[MethodRun, ...]:
    """Every method with every seed, one that draws nothing once.

    Raises:
        InvalidInputError: there is no seed, or one is no whole number from 0.
    """
    if not seeds:
        raise InvalidInputError("seeds is empty; allowed: a list such as [0,1]")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise InvalidInputError(f"seeds holds {seed!r}; allowed: integers from 0")
    return tuple(
        MethodRun(method, seed)
        for method in methods
        for seed in (dict.fromkeys(seeds) if method.seeded else (None,))
    )


def _method(entry: Any) -> Method:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise InvalidInputError(
            f"methods holds {entry!r}; allowed: names of agents, or mappings such as "
            "{name: local_search, evaluations: 10000}"
        )
    method = Method(entry["name"], {k: v for k, v in entry.items() if k != "name"})
    with suppress(MissingExtraError):
        create(method.name, **method.settings)
    return method
