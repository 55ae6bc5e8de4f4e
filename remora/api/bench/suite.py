"""Suites: lists of planning problems, stored as values from which each can be built again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from remora.api.configs import config_names, load_config
from remora.api.passes import check_mode_values
from remora.errors import InvalidInputError, UnknownNameError

__all__ = ["MOST_PROBLEMS", "Suite", "SuiteProblem", "load_suite", "suite_from_values"]

MOST_PROBLEMS = 100

_OPTIONAL = ("optimizer", "mode", "prompt_tokens", "generated_tokens", "global_batch")
_ADDED: Mapping[str, Any] = {
    "mode": "train",
    "prompt_tokens": None,
    "generated_tokens": 0,
    "global_batch": False,
}
"""Fields that the first suites did not have; rows of these are still found by their digest."""

_NOTHING = object()


@dataclass(frozen=True)
class SuiteProblem:
    """One problem of a suite; its costs are those of the roofline.

    Attributes:
        name: unique in its suite.
        model: name of ``conf/model``.
        values: take the place of single values of that file, among them ``batch``.
        hardware: name of ``conf/hardware``.
        optimizer: what keeps optimizer state.
        world_size: number of ranks.
        micro_batches: fixed number of micro-batches, or None.
        budget_bytes: memory per device.
        range: where the budget stood from the least memory (0) to keeping everything (1) when
            the suite was made; for reading only.
        mode: ``train`` or ``inference``.
        prompt_tokens: of one sequence, in inference; None for those of the example batch.
        generated_tokens: of one sequence, in inference.
        global_batch: whether replicas share the batch, so that their number and the tensor degree
            are open.
    """

    name: str
    model: str
    values: Mapping[str, Any]
    hardware: str
    world_size: int
    micro_batches: int | None
    budget_bytes: int
    range: float
    optimizer: str = "adamw"
    mode: str = "train"
    prompt_tokens: int | None = None
    generated_tokens: int = 0
    global_batch: bool = False

    @property
    def digest(self) -> str:
        """A short name for its values, the same in every run of the program."""
        values = {
            key: value for key, value in asdict(self).items() if value != _ADDED.get(key, _NOTHING)
        }
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Suite:
    """A named list of problems.

    Attributes:
        name: name of ``conf/suite``.
        about: what it is for, in a sentence.
        problems: at most :data:`MOST_PROBLEMS`, names unique.
    """

    name: str
    about: str
    problems: tuple[SuiteProblem, ...]


def load_suite(name: str) -> Suite:
    """Read a suite of ``conf/suite``.

    Raises:
        UnknownNameError: no such suite, or one of its problems has an unknown key or name.
        InvalidInputError: a value is not allowed.
    """
    return suite_from_values(load_config("suite", name))


def suite_from_values(values: Mapping[str, Any]) -> Suite:
    """Check the values of a suite.

    Args:
        values: ``name``, ``about`` and ``problems``, a list of mappings.

    Raises:
        UnknownNameError: an unknown key, model or hardware.
        InvalidInputError: a key is missing or a value is not allowed.
    """
    name, entries = str(values.get("name")), values.get("problems")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_PROBLEMS:
        found = len(entries) if isinstance(entries, list) else repr(entries)
        raise InvalidInputError(
            f"suite {name!r} has {found} problems; allowed: a list of 1 to {MOST_PROBLEMS}"
        )
    problems = tuple(_problem(name, entry) for entry in entries)
    names = [problem.name for problem in problems]
    for one in names:
        if names.count(one) > 1:
            raise InvalidInputError(
                f"suite {name!r} names {one!r} {names.count(one)} times; allowed: once"
            )
    return Suite(name, str(values.get("about", "")), problems)


def _problem(suite: str, entry: Any) -> SuiteProblem:
    known = [field.name for field in fields(SuiteProblem)]
    if not isinstance(entry, Mapping):
        raise InvalidInputError(f"suite {suite!r} holds {entry!r}; allowed: mappings")
    for key in entry:
        if key not in known:
            raise UnknownNameError(f"key of a problem of suite {suite!r}", str(key), known)
    missing = [key for key in known if key not in entry and key not in _OPTIONAL]
    if missing:
        raise InvalidInputError(f"a problem of suite {suite!r} lacks {missing[0]!r}")
    problem = SuiteProblem(**entry)
    _check_values(problem)
    return problem


def _check_values(problem: SuiteProblem) -> None:
    for group in ("model", "hardware"):
        name, allowed = getattr(problem, group), config_names(group)
        if name not in allowed:
            raise UnknownNameError(f"{group} of problem {problem.name!r}", name, allowed)
    check_mode_values(problem.mode, problem.prompt_tokens, problem.generated_tokens)
    counts = {"world_size": problem.world_size, "budget_bytes": problem.budget_bytes}
    if problem.micro_batches is not None:
        counts["micro_batches"] = problem.micro_batches
    for key, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidInputError(
                f"{key} of problem {problem.name!r} is {value!r}; allowed: integers above 0"
            )
