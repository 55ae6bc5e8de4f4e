"""The problems that a group is judged by, and others of its kind to practise on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from remora.api.bench.build import build_problem
from remora.api.bench.suite import SuiteProblem, load_suite
from remora.api.bench.transfer.groups import Group
from remora.api.joint_environment import draw_tables, drawn_problem
from remora.envs.drawing import ProblemSpec, draw_spec
from remora.envs.plan_tables import PlanTables
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem

__all__ = ["TransferProblem", "build_transfer", "judged_problems", "practice_tables"]

_MOST_DRAWS = 10
"""Draws for every problem that is wanted."""


@dataclass(frozen=True)
class TransferProblem:
    """One problem that a group is judged by.

    Attributes:
        group: name of the group.
        source: of a suite, or drawn.
    """

    group: str
    source: SuiteProblem | ProblemSpec

    @property
    def name(self) -> str:
        """Unique over all groups."""
        return f"{self.group}/{self.source.name}"

    @property
    def digest(self) -> str:
        """A short name for its values."""
        text = json.dumps([self.group, asdict(self.source)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.source.model

    @property
    def hardware(self) -> str:
        """Name of the hardware."""
        return self.source.hardware

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.source.world_size

    @property
    def micro_batches(self) -> int | None:
        """Fixed number of micro-batches, or None."""
        return self.source.micro_batches

    @property
    def range(self) -> float:
        """Where the budget stands from the least memory (0) to keeping everything (1)."""
        return self.source.range


def build_transfer(item: TransferProblem) -> Problem:
    """Trace or draw the model; costs are those of the roofline.

    Raises:
        UsageError: a value of the problem is not allowed.
        TraceError: the model could not be traced.
    """
    if isinstance(item.source, SuiteProblem):
        return build_problem(item.source)
    return drawn_problem(item.source)


def judged_problems(group: Group, count: int) -> list[TransferProblem]:
    """Take problems of the group's suite, spread evenly over it, or draw some that can be built.

    Args:
        group: which kind.
        count: how many, unless the group names its problems.

    Raises:
        InvalidInputError: hardly any model fits any hardware.
        TraceError: a model could not be traced.
    """
    if group.suite is None:
        return [TransferProblem(group.name, spec) for spec in _drawn(group, count)]
    all_of_it = load_suite(group.suite).problems
    if group.problems:
        chosen = [one for one in all_of_it if one.name in group.problems]
    else:
        count = min(count, len(all_of_it))
        chosen = [all_of_it[place * len(all_of_it) // count] for place in range(count)]
    return [TransferProblem(group.name, one) for one in chosen]


def practice_tables(group: Group, count: int, seed: int) -> tuple[PlanTables, ...]:
    """Draw problems of a group's kind by numbers of their own, so that none is judged by.

    Args:
        group: which kind.
        count: how many.
        seed: of the practice, 0 or more.

    Raises:
        InvalidInputError: hardly any model fits any hardware.
        TraceError: a model could not be traced.
    """
    # What is judged by is drawn with the group's own seed.
    return draw_tables(group.config, count, group.seed + 1 + seed, focused=True)


def _drawn(group: Group, count: int) -> list[ProblemSpec]:
    found: list[ProblemSpec] = []
    for number in range(_MOST_DRAWS * count):
        if len(found) == count:
            break
        spec = draw_spec(group.config.recipe, group.seed, number)
        try:
            drawn_problem(spec)
        except InvalidInputError:
            # Too large for that hardware, or for that many ranks: another one is drawn.
            continue
        found.append(spec)
    if len(found) < count:
        raise InvalidInputError(
            f"problems is {count} and {len(found)} of the drawn ones of group {group.name!r} fit "
            "into free memory; allowed: models and hardware that go together"
        )
    return found
