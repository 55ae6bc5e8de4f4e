"""Measures one subject on the device at hand: operators and units, then steps by schedule."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from typing import Any

import torch

from remora.api.model_source import CUSTOM, ModelSource
from remora.api.placement import build_on
from remora.api.profiling.job import ProfileJob
from remora.api.profiling.journal import Journal, step_item
from remora.api.profiling.schedules import schedules_to_measure
from remora.cost_models.dataset.records import OK, ProfiledRun, Setting, StepRow, UnitRow
from remora.cost_models.profiled import profiled_costs
from remora.executor.measure import measure_step
from remora.executor.memory.install import apply
from remora.executor.replay.replayer import Replayer
from remora.executor.replay.units import measure_unit_runs
from remora.graph.model_graph import ModelGraph
from remora.graph.signature import op_signature
from remora.graph.trace import trace
from remora.hardware.local import device_name, local_device_type, measure_local
from remora.hardware.measurements import Measurements, Overheads, UnitRuns
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.zoo import Example

__all__ = ["local_setting", "measure_subject"]

_ANY_BUDGET = 2**60
_OPERATORS, _PLANS, _UNITS_AGAIN = "operators", "plans", "units again"
_UNIT_LIMIT_S = 1.0
_PASSES = 2


def local_setting(threads: int | None) -> Setting:
    """Describe the device at hand; on a CPU memory that counts as the host's is emulated."""
    if threads is not None:
        torch.set_num_threads(threads)
    emulated = "emulated" if local_device_type() == "cpu" else None
    return Setting(
        hardware=replace(measure_local(host_pool=emulated), state=None),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        python=platform.python_version(),
        machine=device_name(),
    )


def measure_subject(job: ProfileJob, journal: Journal) -> ProfiledRun:
    """Measure everything that the journal does not have yet.

    Args:
        job: what to measure.
        journal: of an earlier process that died, or empty.

    Raises:
        RemoraError: the model cannot be built or traced.
    """
    setting = local_setting(job.threads)
    torch.manual_seed(job.seed)
    # A failure of the model itself is named as the user's own.
    source = ModelSource(CUSTOM, job.subject.target, job.subject.values)
    example = build_on(source, setting.hardware.device_type)
    graph = trace(*example, model_name=job.subject.model)
    units, measurements = _operators(job, journal, graph, example)
    run = ProfiledRun(job.subject, setting, graph, measurements, units, (), job.round)
    schedules = _schedules(job, journal, run)
    # The second pass in reverse order: what slows the machine for a while meets all alike.
    for number in range(_PASSES):
        order = list(schedules.items())[:: 1 if number % 2 == 0 else -1]
        for label, schedule in order:
            if not _failed(journal, label):
                _measure_step(job, journal, step_item(label, number), schedule, graph, example)
    steps = tuple(_step_row(job, journal, label, plan) for label, plan in schedules.items())
    return replace(run, units=_units_again(job, journal, run), steps=steps)


def _operators(
    job: ProfileJob, journal: Journal, graph: ModelGraph, example: Example
) -> tuple[tuple[UnitRow, ...], Measurements]:
    values = journal.values(_OPERATORS)
    if values is None:
        journal.begin(_OPERATORS)
        values = _measure_operators(job, graph, example)
        journal.done(_OPERATORS, values)
    units = tuple(
        UnitRow(row["kind"], row["unit"], _unit_runs(row["runs"])) for row in values["units"]
    )
    measurements = Measurements(
        units={},
        workspace_bytes=values["workspace_bytes"],
        overheads=Overheads(**values["overheads"]),
        optimizer_s=values["optimizer_s"],
        notes=tuple(values["notes"]),
        optimizer=job.optimizer,
    )
    return units, measurements


def _units_again(job: ProfileJob, journal: Journal, run: ProfiledRun) -> tuple[UnitRow, ...]:
    """Run the units once more, after the steps, and return both passes together."""
    values = journal.values(_UNITS_AGAIN)
    if values is None:
        journal.begin(_UNITS_AGAIN)
        values = {kind: asdict(runs) for kind, runs in _run_units(job, run.graph)[0].items()}
        journal.done(_UNITS_AGAIN, values)
    return tuple(
        replace(row, runs=_together(row.runs, _unit_runs(values[row.kind])))
        for row in run.units
        if row.kind in values
    )


def _together(first: UnitRuns, second: UnitRuns) -> UnitRuns:
    return UnitRuns(
        forward_op_s=first.forward_op_s + second.forward_op_s,
        backward_op_s=first.backward_op_s + second.backward_op_s,
    )


def _run_units(job: ProfileJob, graph: ModelGraph) -> tuple[dict[str, UnitRuns], tuple[str, ...]]:
    device = torch.device(local_device_type())
    kinds = {unit.kind for unit in graph.units}
    return measure_unit_runs(graph, kinds, device, job.repetitions, _UNIT_LIMIT_S)


def _measure_operators(job: ProfileJob, graph: ModelGraph, example: Example) -> dict[str, Any]:
    kinds = {unit.kind: unit.index for unit in reversed(graph.units)}
    runs, notes = _run_units(job, graph)
    replayer = Replayer(
        model=example.model, example_inputs=example.example_inputs, loss=example.loss
    )
    signatures = {op_signature(graph, op) for op in graph.ops if not op.view}
    workspaces, workspace_notes = replayer.workspaces(graph, signatures)
    times = {kind: run.times() for kind, run in runs.items()}
    own_notes = [note for run in runs.values() for note in run.notes]
    return {
        "units": [
            {"kind": kind, "unit": kinds[kind], "runs": asdict(run)} for kind, run in runs.items()
        ],
        "workspace_bytes": workspaces,
        "overheads": asdict(replayer.overheads(graph, times)),
        "optimizer_s": replayer.optimizer_s(graph, job.optimizer),
        "notes": [*notes, *dict.fromkeys(own_notes), *workspace_notes],
    }


def _unit_runs(values: dict[str, Any]) -> UnitRuns:
    return UnitRuns(
        forward_op_s=tuple(map(tuple, values["forward_op_s"])),
        backward_op_s=tuple(map(tuple, values["backward_op_s"])),
    )


def _schedules(job: ProfileJob, journal: Journal, run: ProfiledRun) -> dict[str, Schedule]:
    """Schedules by label; a second process takes those of the first."""
    values = journal.values(_PLANS)
    if values is None:
        journal.begin(_PLANS)
        graph, hardware = run.graph, run.setting.hardware
        costs = profiled_costs(graph, hardware, run.measured)
        optimizer = OPTIMIZERS[job.optimizer]
        problem = Problem({1: graph}, {1: costs}, hardware, optimizer, _ANY_BUDGET)
        chosen = schedules_to_measure(problem, job.schedules, job.seed)
        values = {label: schedule_to_json(schedule) for label, schedule in chosen.items()}
        journal.done(_PLANS, values)
    graph_hash = run.graph.content_hash
    return {label: schedule_from_json(text, graph_hash) for label, text in values.items()}


def _failed(journal: Journal, label: str) -> bool:
    """Whether a pass over this schedule went wrong."""
    passes = [journal.values(step_item(label, number)) for number in range(_PASSES)]
    return any(values is not None and values["status"] != OK for values in passes)


def _measure_step(
    job: ProfileJob,
    journal: Journal,
    item: str,
    schedule: Schedule,
    graph: ModelGraph,
    example: Example,
) -> None:
    if journal.values(item) is not None:
        return
    journal.begin(item)
    with apply(example.model, graph, schedule) as handle:
        measured = measure_step(
            example.model,
            example.example_inputs,
            example.loss,
            job.optimizer,
            job.repetitions,
            handle,
            job.repetitions,
        )
    journal.done(item, asdict(measured))


def _step_row(job: ProfileJob, journal: Journal, label: str, schedule: Schedule) -> StepRow:
    """Both passes together; failed if one of them did."""
    passes = [journal.values(step_item(label, number)) for number in range(_PASSES)]
    found = [values for values in passes if values is not None]
    failed = [values for values in found if values["status"] != OK]
    return StepRow(
        label=label,
        schedule_json=schedule_to_json(schedule),
        optimizer=job.optimizer,
        status=failed[0]["status"] if failed else OK,
        detail=failed[0]["detail"] if failed else "",
        step_times_s=() if failed else tuple(t for v in found for t in v["step_times_s"]),
        peak_memory_bytes=0 if failed else max(v["peak_memory_bytes"] for v in found),
    )
