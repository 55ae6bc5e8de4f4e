"""What else could happen to every unit of a plan, and what the whole step would then be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from remora.errors import RemoraError
from remora.graph.model_graph import Unit
from remora.report.content import UnitRow, unit_rows
from remora.report.unit_actions import actions_text
from remora.report.unit_choice import Alternative, Effect, UnitChoice
from remora.schedule.menu import unit_menu
from remora.schedule.option_prices import price_option
from remora.schedule.problem import Problem
from remora.schedule.program import InstructionKind
from remora.schedule.recompute import is_recompute
from remora.schedule.schedule import Action, Schedule, UnitOption
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline

__all__ = ["Planned", "choices_of", "unit_choices"]

_MOST_INSTRUCTIONS = 10_000
"""Of all steps together that are simulated to tell what alternatives would change."""


@dataclass(frozen=True)
class Planned:
    """A plan as far as its units are explained.

    Attributes:
        problem: what was asked.
        schedule: the answer.
        timeline: its simulated run.
        bound_bytes: the peak that is compared with the budget.
        correction: estimated over simulated seconds.
    """

    problem: Problem
    schedule: Schedule
    timeline: Timeline
    bound_bytes: int
    correction: float = 1.0


def choices_of(planned: Planned) -> tuple[UnitChoice, ...]:
    """Price what could be done with every unit, in training or in inference."""
    if planned.problem.inference is None:
        return unit_choices(planned)
    from remora.api.pass_alternatives import pass_choices

    return pass_choices(planned)


def unit_choices(planned: Planned) -> tuple[UnitChoice, ...]:
    """Price the options of every unit, and simulate the step with each where that is quick.

    Args:
        planned: a plan of training.
    """
    problem, schedule = planned.problem.variant_of(planned.schedule), planned.schedule
    rows = unit_rows(problem.graph, schedule)
    options = {
        unit.index: _options(problem, unit, schedule.memory.options[unit.index])
        for unit in problem.graph.units
    }
    whole = sum(1 for row in rows if not row.groups for _ in _whole(options[row.index]))
    judge = whole * len(planned.timeline.events) <= _MOST_INSTRUCTIONS
    return tuple(
        _choice(planned, problem, unit, row, options[unit.index], judge)
        for unit, row in zip(problem.graph.units, rows, strict=True)
    )


def _options(problem: Problem, unit: Unit, taken: UnitOption) -> tuple[UnitOption, ...]:
    """The menu, and the option taken if it is not on it."""
    menu = unit_menu(problem, unit)
    return menu if taken in menu else (*menu, taken)


def _whole(options: tuple[UnitOption, ...]) -> Iterator[UnitOption]:
    """Options that treat a unit in one way."""
    return (option for option in options if _family(option) != "mixed")


def _choice(
    planned: Planned,
    problem: Problem,
    unit: Unit,
    row: UnitRow,
    options: tuple[UnitOption, ...],
    judge: bool,
) -> UnitChoice:
    alternatives = []
    taken = planned.schedule.memory.options[unit.index]
    if row.groups:
        alternatives.append(_grouped(planned, problem, unit, row))
    for option in options:
        own = not row.groups and option == taken
        judged = judge and not row.groups and not own and _family(option) != "mixed"
        effect = _effect(planned, unit, option) if judged else None
        alternatives.append(_alternative(planned, problem, unit, option, own, effect))
    streamed = unit.index in planned.schedule.state.streamed_units
    return UnitChoice(
        row.index,
        row.name,
        f"{row.actions}; weights wait on the host" if streamed else row.actions,
        row.groups,
        tuple(alternatives),
        unit.fixed_reason,
    )


def _alternative(
    planned: Planned,
    problem: Problem,
    unit: Unit,
    option: UnitOption,
    taken: bool,
    effect: Effect | None,
) -> Alternative:
    chain = problem.chains[planned.schedule.pipeline.micro_batches]
    priced = price_option(chain, unit.index, option)
    rates = (chain.costs.d2h_bytes_per_s, chain.costs.h2d_bytes_per_s)
    copy_s = sum(priced.moved_bytes / rate for rate in rates) if priced.moved_bytes else 0.0
    return Alternative(
        name=actions_text(problem.graph, unit, option, grouped=False),
        family=_family(option),
        time_s=priced.time_s * planned.correction,
        held_bytes=priced.held_bytes,
        moved_bytes=priced.moved_bytes,
        copy_s=copy_s,
        taken=taken,
        effect=effect,
    )


def _grouped(planned: Planned, problem: Problem, unit: Unit, row: UnitRow) -> Alternative:
    """Recomputation with a group: its seconds are those of the simulated run."""
    chain = problem.chains[planned.schedule.pipeline.micro_batches]
    spent_s = sum(
        event.end_s - event.start_s
        for event in planned.timeline.events
        if event.instruction.unit == unit.index
        and event.instruction.kind is InstructionKind.RECOMPUTE
    )
    tops = planned.schedule.memory.groups
    begins = any(g.start == unit.index and g.checkpoint is Action.KEEP for g in tops)
    held = chain.input_bytes(unit.index) if begins else 0
    return Alternative(
        name=f"{row.actions} (units {', in '.join(reversed(row.groups))})",
        family="recompute",
        time_s=spent_s / planned.schedule.pipeline.micro_batches * planned.correction,
        held_bytes=held,
        moved_bytes=0,
        copy_s=0.0,
        taken=True,
    )


def _effect(planned: Planned, unit: Unit, option: UnitOption) -> Effect | None:
    """What the step is with another option of one unit; None where that is not allowed."""
    options = list(planned.schedule.memory.options)
    options[unit.index] = option
    memory = replace(planned.schedule.memory, options=tuple(options))
    try:
        other = simulate(planned.problem, replace(planned.schedule, memory=memory))
    except RemoraError:
        return None
    more_bytes = other.max_peak_bytes - planned.timeline.max_peak_bytes
    return Effect(
        more_s=(other.step_time_s - planned.timeline.step_time_s) * planned.correction,
        over_bytes=planned.bound_bytes + more_bytes - planned.problem.budget_bytes,
        more_bytes=more_bytes,
    )


def _family(option: UnitOption) -> str:
    if is_recompute(option):
        return "recompute"
    acted = option.distinct - {Action.KEEP}
    if not acted:
        return "keep"
    return "offload" if acted == {Action.OFFLOAD} else "mixed"
