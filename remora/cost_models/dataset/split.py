"""Which runs a model learns from and which it is judged by.

A kind of unit that is measured in a run that judges is taken out of those that teach, whatever
graph it stands in there: the same unit occurs in models of other depths and of other families.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from remora.cost_models.dataset.families import CALIBRATION
from remora.cost_models.dataset.merge import grouped
from remora.cost_models.dataset.records import ProfiledRun
from remora.errors import InvalidInputError, UnknownNameError

__all__ = ["LEAST_GRAPHS", "Split", "hold_out", "leave_family_out", "leave_hardware_out"]

Split = tuple[tuple[ProfiledRun, ...], tuple[ProfiledRun, ...]]
"""Runs that teach, and runs that judge."""

LEAST_GRAPHS = 3
"""With fewer graphs a median over them says nothing."""


def leave_family_out(runs: Sequence[ProfiledRun], family: str, least: int = LEAST_GRAPHS) -> Split:
    """Judge by a whole family, learn from all others.

    Args:
        runs: of a dataset.
        family: to leave out; not ``calibration``, which stands for no architecture.
        least: fewest graphs that either side must have.

    Raises:
        UnknownNameError: no run is of this family.
        InvalidInputError: too few graphs.
    """
    families = {run.subject.family for run in runs} - {CALIBRATION}
    if family not in families:
        raise UnknownNameError("family", family, families)
    return _split(runs, lambda run: run.subject.family == family, f"family {family!r}", least)


def leave_hardware_out(
    runs: Sequence[ProfiledRun], setting_name: str, least: int = LEAST_GRAPHS
) -> Split:
    """Judge by everything of one device, learn from all others.

    Args:
        runs: of a dataset.
        setting_name: device and threads, as in :attr:`Setting.name`.
        least: fewest graphs that either side must have.

    Raises:
        UnknownNameError: no run is of this setting.
        InvalidInputError: too few graphs.
    """
    names = {run.setting.name for run in runs}
    if setting_name not in names:
        raise UnknownNameError("hardware", setting_name, names)
    where = f"hardware {setting_name!r}"
    # The same units are asked for on another device, which is no hint.
    return _split(runs, lambda run: run.setting.name == setting_name, where, least, apart=False)


def hold_out(
    runs: Sequence[ProfiledRun], share: float, seed: int, least: int = LEAST_GRAPHS
) -> Split:
    """Judge by a share of every family's models, sizes and batches, learn from the others.

    A subject is on one side in all of its settings. At least one of every family judges and one
    teaches; networks for calibration always teach.

    Args:
        runs: of a dataset, in any order.
        share: of the subjects of every family that judge, in (0, 1).
        seed: of the choice.
        least: fewest subjects of a family; with 1, the only one of a family teaches.

    Raises:
        InvalidInputError: the share is not allowed, or a family has too few subjects.
    """
    if not 0 < share < 1:
        raise InvalidInputError(f"share is {share}, allowed: above 0 and below 1")
    held: set[str] = set()
    for family in sorted({run.subject.family for run in runs} - {CALIBRATION}):
        keys = sorted({run.subject.key for run in runs if run.subject.family == family})
        _check_enough(f"family {family!r}", len(keys), least)
        random.Random(f"{seed}/{family}").shuffle(keys)
        held.update(keys[: min(max(1, round(share * len(keys))), len(keys) - 1)])
    return _apart(runs, lambda run: run.subject.key in held)


def _split(
    runs: Sequence[ProfiledRun],
    judges: Callable[[ProfiledRun], bool],
    what: str,
    least: int,
    apart: bool = True,
) -> Split:
    left_out = [run for run in runs if judges(run)]
    others = [run for run in runs if not judges(run)]
    _check_enough(what, _graphs(left_out), least)
    _check_enough(f"everything but {what}", _graphs(others), least)
    return _apart(runs, judges) if apart else (tuple(others), tuple(left_out))


def _apart(runs: Sequence[ProfiledRun], judges: Callable[[ProfiledRun], bool]) -> Split:
    """Split, and take the kinds of units that judge out of the runs that teach."""
    judging = tuple(run for run in runs if judges(run))
    kinds = {row.kind for run in judging for row in run.units}
    teaching = tuple(
        replace(run, units=tuple(row for row in run.units if row.kind not in kinds))
        for run in runs
        if not judges(run)
    )
    return teaching, judging


def _graphs(runs: Sequence[ProfiledRun]) -> int:
    return len(grouped(runs, lambda run: (run.subject.key, run.setting.name)))


def _check_enough(what: str, found: int, least: int) -> None:
    if found < least:
        raise InvalidInputError(f"{what} has {found} graphs, allowed: {least} or more")
