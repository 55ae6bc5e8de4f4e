"""Groups of problems of a kind that a policy never saw; their values are in ``conf/transfer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remora.api.bench.lists import check_entries, check_once
from remora.api.bench.suite import load_suite
from remora.api.configs import config_names, load_config
from remora.api.joint_config import JointConfig, joint_config
from remora.api.records import record
from remora.errors import InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode

__all__ = ["Group", "read_groups"]


@dataclass(frozen=True)
class Group:
    """What is judged by, and what a policy may practise on.

    Attributes:
        name: unique in a comparison.
        about: what is new about it, in a sentence.
        env: name of a file in ``conf/env``; practice is drawn from it, and what is judged by too
            unless there is a suite.
        values: take the place of single values of that file.
        suite: name of ``conf/suite`` whose problems are judged by, or None.
        problems: names of some problems of the suite; empty for any of them.
        seed: of the draws.
    """

    name: str
    about: str = ""
    env: str = "joint"
    values: Mapping[str, Any] = field(default_factory=dict)
    suite: str | None = None
    problems: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all names."""
        if "/" in self.name or not self.name:
            raise InvalidInputError(f"name of a group is {self.name!r}; allowed: words without '/'")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise InvalidInputError(
                f"seed of group {self.name!r} is {self.seed!r}; allowed: integers from 0"
            )
        if self.problems and self.suite is None:
            raise InvalidInputError(
                f"group {self.name!r} names problems and suite is None; allowed: a suite"
            )
        if self.config.recipe.mode is not Mode.TRAIN:
            raise InvalidInputError(
                f"env of group {self.name!r} is {self.env!r}, which has passes of inference; "
                "allowed: environments of training"
            )
        names = [one.name for one in load_suite(self.suite).problems] if self.suite else []
        for problem in self.problems:
            if problem not in names:
                raise UnknownNameError(f"problem of suite {self.suite!r}", problem, names)

    @property
    def config(self) -> JointConfig:
        """What problems are drawn from.

        Raises:
            UsageError: a name or value is not allowed.
        """
        return joint_config(self.env, self.values)


def read_groups(entries: Sequence[Any]) -> tuple[Group, ...]:
    """Read groups: names of ``conf/transfer``, or mappings with the fields of a :class:`Group`.

    Raises:
        UnknownNameError: no such group, key, model or hardware; the message has the closest ones.
        InvalidInputError: a value is not allowed, or a group is there twice.
    """
    check_entries("groups", entries, "[held_out,larger]")
    groups = tuple(map(_group, entries))
    check_once("groups", [group.name for group in groups])
    return groups


def _group(entry: Any) -> Group:
    if isinstance(entry, str):
        allowed = config_names("transfer")
        if entry not in allowed:
            raise UnknownNameError("group", entry, allowed)
        entry = load_config("transfer", entry)
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise InvalidInputError(
            f"groups holds {entry!r}; allowed: names of conf/transfer, or mappings such as "
            "{name: mine, env: joint}"
        )
    return record(Group, "a group", entry)
