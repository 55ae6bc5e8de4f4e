"""Measured steps beside what the simulator says of them: what corrections are learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from remora.cost_models.dataset.records import OK, ProfiledRun, StepRow
from remora.cost_models.gnn.step_features import EncodedSteps, encoder_of
from remora.schedule.problem import OPTIMIZERS, CostTable, Problem
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_from_json

__all__ = ["StepExample", "by_graph", "example_of", "step_examples"]

_NO_BUDGET = 2**60


@dataclass(frozen=True, eq=False)
class StepExample:
    """One measured step.

    Attributes:
        family: group of architectures.
        subject: key of what was measured, where, and by which optimizer: examples that share it
            are schedules of one graph.
        problem: graph, hardware and the cost table under which the step was simulated.
        schedule: what ran.
        row: what was measured.
        encoded: the schedule as arrays, with the simulated figures; one schedule.
    """

    family: str
    subject: str
    problem: Problem
    schedule: Schedule
    row: StepRow
    encoded: EncodedSteps


def step_examples(
    runs: Iterable[ProfiledRun], costs_of: Callable[[ProfiledRun], CostTable]
) -> list[StepExample]:
    """Simulate and encode every step of runs that went well.

    Args:
        runs: what was measured.
        costs_of: cost table of a run's graph. For training it should come from a model that did
            not learn from that graph, as its times would be better than those of a new graph.
    """
    examples: list[StepExample] = []
    for run in runs:
        rows: dict[str, list[StepRow]] = {}
        for row in run.steps:
            if row.status == OK:
                rows.setdefault(row.optimizer, []).append(row)
        costs = costs_of(run) if rows else None
        for optimizer, group in rows.items():
            assert costs is not None
            examples += _examples(run, costs, optimizer, group)
    return examples


def example_of(
    problem: Problem, schedule: Schedule, row: StepRow, family: str = "", subject: str = ""
) -> StepExample:
    """One measured step of a problem at hand, as in a search that measures its best answers."""
    encoded = encoder_of(problem).encode([schedule])
    return StepExample(family, subject, problem, schedule, row, encoded)


def by_graph(examples: Sequence[StepExample]) -> Mapping[str, list[int]]:
    """Places of the examples of every subject, in the order of their first ones."""
    places: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        places.setdefault(example.subject, []).append(place)
    return places


def _examples(
    run: ProfiledRun, costs: CostTable, optimizer: str, rows: Sequence[StepRow]
) -> list[StepExample]:
    problem = Problem(
        graphs={1: run.graph},
        costs={1: costs},
        hardware=run.setting.hardware,
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=_NO_BUDGET,
        allow_lossy=True,
    )
    schedules = [schedule_from_json(row.schedule_json, run.graph.content_hash) for row in rows]
    encoded = encoder_of(problem).encode(schedules)
    graph = run.graph.content_hash
    subject = f"{run.subject.key}/{graph}/{run.setting.name}/{optimizer}"
    return [
        StepExample(run.subject.family, subject, problem, schedule, row, encoded.one(place))
        for place, (schedule, row) in enumerate(zip(schedules, rows, strict=True))
    ]
