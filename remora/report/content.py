"""What a report shows, as plain records that need no scheduler to be made."""

from __future__ import annotations

from dataclasses import dataclass, field

from remora.graph.model_graph import ModelGraph
from remora.report.unit_actions import actions_text
from remora.report.unit_choice import UnitChoice
from remora.schedule.inference import Mode
from remora.schedule.schedule import Group, Schedule
from remora.simulator.records import Estimate, Verification
from remora.simulator.timeline import Timeline

__all__ = ["CandidateRow", "ReportContent", "UnitRow", "unit_rows"]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One scheduler's answer to the problem.

    Attributes:
        name: the scheduler.
        step_time_s: predicted; None if it found nothing that can be simulated.
        peak_memory_bytes: predicted for the fullest rank; None as above.
        search_s: seconds of its search.
        feasible: whether its peak is within the budget.
        chosen: whether its schedule became the plan.
        note: why there is no figure.
        origin: whose schedule it began from where not from its own; empty for others.
    """

    name: str
    step_time_s: float | None
    peak_memory_bytes: int | None
    search_s: float
    feasible: bool
    chosen: bool = False
    note: str = ""
    origin: str = ""


@dataclass(frozen=True)
class ReportContent:
    """Everything a report is drawn from.

    Attributes:
        graph: the traced model.
        schedule: what was decided.
        timeline: its simulated run.
        estimate: its predicted figures.
        budget_bytes: memory per device.
        lower_bound_s: no schedule within the budget is faster.
        keep_all_step_time_s: predicted step time with the budget ignored.
        keep_all_peak_bytes: predicted peak with the budget ignored.
        hardware_name: what it was planned for.
        agent: scheduler that made the schedule.
        candidates: rows of the table, in the order in which they are shown.
        verification: the verdict of a real run; None if there was none.
        world_size: ranks of all data-parallel replicas together.
        cost_reason: why the cost model of the estimate was taken; empty if that is not known.
        hardware_state: a sentence on the state of the hardware; empty if it was as new.
        mode: what was planned.
        choices: alternatives of every unit; empty if they were not worked out.
    """

    graph: ModelGraph
    schedule: Schedule
    timeline: Timeline
    estimate: Estimate
    budget_bytes: int
    lower_bound_s: float
    keep_all_step_time_s: float
    keep_all_peak_bytes: int
    hardware_name: str
    agent: str
    candidates: tuple[CandidateRow, ...] = ()
    verification: Verification | None = field(default=None)
    world_size: int = 1
    cost_reason: str = ""
    hardware_state: str = ""
    mode: Mode = Mode.TRAIN
    choices: tuple[UnitChoice, ...] = ()

    @property
    def run_name(self) -> str:
        """What is run again and again: a step of training, or a pass."""
        return "pass" if self.mode is Mode.INFERENCE else "step"

    @property
    def measured(self) -> Timeline | None:
        """What a measured step did and when; None if it was not recorded."""
        return None if self.verification is None else self.verification.timeline


@dataclass(frozen=True, slots=True)
class UnitRow:
    """What happens to one unit: its actions in words and the groups around it, outer first."""

    index: int
    name: str
    actions: str
    groups: tuple[str, ...]


def unit_rows(graph: ModelGraph, schedule: Schedule) -> tuple[UnitRow, ...]:
    """Describe the schedule unit by unit.

    Args:
        graph: the graph of the schedule.
        schedule: a valid schedule of ``graph``.
    """
    rows = []
    for unit, option in zip(graph.units, schedule.memory.options, strict=True):
        around = _groups_around(schedule.memory.groups, unit.index)
        actions = actions_text(graph, unit, option, bool(around))
        rows.append(UnitRow(unit.index, unit.name or "(start)", actions, around))
    return tuple(rows)


def _groups_around(groups: tuple[Group, ...], index: int) -> tuple[str, ...]:
    for group in groups:
        if group.start <= index < group.end:
            name = f"{group.start}-{group.end - 1}"
            if group.checkpoint != "keep":
                name += f" ({group.checkpoint}ed checkpoint)"
            return (name, *_groups_around(group.children, index))
    return ()
