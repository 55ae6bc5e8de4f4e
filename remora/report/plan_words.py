"""The pipeline and state parts of a schedule in words."""

from __future__ import annotations

from collections import defaultdict

from remora.graph.precision.precision import Precision, lossy_precisions
from remora.report.content import ReportContent
from remora.report.wording import ranges_text
from remora.schedule.inference import Mode
from remora.schedule.orders import kind_title, model_copies
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelineKind,
    Placement,
    Schedule,
    StatePlan,
)

__all__ = ["is_plain", "plan_sentences", "stage_cells"]

_SHARDED = ("", "Optimizer state is", "Gradients and optimizer state are", "All state is")


def is_plain(schedule: Schedule) -> bool:
    """Tell whether there is nothing to say: no pipeline, one micro-batch, state on the device."""
    pipeline = schedule.pipeline
    alone = pipeline.kind is PipelineKind.NONE and pipeline.micro_batches == 1
    alone = alone and schedule.tensor.degree == 1 and not schedule.precision.units
    return alone and schedule.state == StatePlan()


def plan_sentences(content: ReportContent) -> list[str]:
    """Say how the model is cut, in which order micro-batches run, and where state lives."""
    schedule = content.schedule
    sentences = [_pipeline_sentence(schedule, content.run_name), *_ranks(content)]
    if content.mode is Mode.INFERENCE:
        sentences += _waiting_sentences(schedule, len(content.graph.units))
    else:
        sentences += _state_sentences(schedule.state, len(content.graph.units))
    if _copies(schedule.memory):
        sentences.append(_pace_sentence(schedule.memory))
    if schedule.precision.units:
        sentences.append(_precision_sentence(schedule.precision.units, content.mode))
    return sentences


def stage_cells(content: ReportContent) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of the table of stages."""
    pipeline, units = content.schedule.pipeline, content.graph.units
    ranks: dict[int, set[int]] = defaultdict(set)
    for instruction in (event.instruction for event in content.timeline.events):
        if instruction.stage >= 0:
            # The stages of a second copy of the model are numbered after those of the first.
            ranks[instruction.stage % pipeline.num_stages].add(instruction.rank)
    rows: list[tuple[str, ...]] = []
    for stage, (start, end) in enumerate(pipeline.spans(len(units))):
        first, last = (units[unit].name or "(start)" for unit in (start, end - 1))
        names = f"{first} to {last}" if end - start > 1 else first
        on = ranges_text(sorted(ranks[stage]))
        rows.append((str(stage), on, ranges_text(range(start, end)), str(end - start), names))
    return ("stage", "rank", "units", "number of units", "names"), rows


def _pipeline_sentence(schedule: Schedule, run: str) -> str:
    pipeline = schedule.pipeline
    count = pipeline.micro_batches
    batches = f"{count} micro-batches" if count > 1 else "one micro-batch"
    if pipeline.kind is PipelineKind.NONE:
        return f"No pipeline: every {run} runs {batches} through the whole model."
    per_rank = f", {pipeline.chunks} on each rank" if pipeline.chunks > 1 else ""
    copies = (
        "; a second copy of the model runs through the ranks the other way"
        if model_copies(pipeline.kind) > 1
        else ""
    )
    return (
        f"Pipeline {kind_title(pipeline.kind)}: {pipeline.num_ranks} ranks, "
        f"{pipeline.num_stages} stages{per_rank}, {batches} in every {run}{copies}."
    )


def _ranks(content: ReportContent) -> list[str]:
    """How the devices are shared out, where some share layers or are replicas."""
    schedule = content.schedule
    pipeline, degree = schedule.pipeline.num_ranks, schedule.tensor.degree
    replicas = content.world_size // schedule.num_devices
    if degree == replicas == 1:
        return []
    words = f"{content.world_size} devices: {pipeline} in a pipeline (p={pipeline})"
    words += f" x {degree} that share every layer (t={degree})"
    return [f"{words} x {replicas} data-parallel replicas (d={replicas})."]


def _waiting_sentences(schedule: Schedule, num_units: int) -> list[str]:
    """What waits on the host between passes."""
    state = schedule.state
    sentences = [f"{_weights(state, num_units)}."]
    if state.host_caches:
        count, which = len(state.host_caches), ranges_text(state.host_caches)
        sentences.append(
            f"Keys and values of {_units(count)} ({which}) wait on the host and are copied in "
            "for every use."
        )
    if state.streamed_units or state.host_caches:
        memory = schedule.memory
        sentences.append(
            f"Weights and caches are asked for {_units(memory.prefetch_distance)} ahead; what is "
            f"added to a cache is written back within {_units(memory.offload_window)}."
        )
    return sentences


def _precision_sentence(units: tuple[Precision, ...], mode: Mode) -> str:
    """Which units compute in fewer bits."""
    parts = []
    for precision in lossy_precisions(units):
        where = [index for index, one in enumerate(units) if one is precision]
        parts.append(f"{_units(len(where))} ({ranges_text(where)}) in {precision.value}")
    verb = "compute" if mode is Mode.TRAIN else "keep their weights"
    others = "the others at the model's precision"
    return f"Of {_units(len(units))} {verb} {' and '.join(parts)}, {others}; this is lossy."


def _units(count: int) -> str:
    return "one unit" if count == 1 else f"{count} units"


def _state_sentences(state: StatePlan, num_units: int) -> list[str]:
    sentences = [f"{_weights(state, num_units)}; {_gradients(state)}; {_optimizer(state)}."]
    if state.zero_stage:
        sentences.append(
            f"{_SHARDED[state.zero_stage]} sharded over the data-parallel replicas "
            f"(ZeRO {state.zero_stage})."
        )
    return sentences


def _weights(state: StatePlan, num_units: int) -> str:
    if state.weights is Placement.HOST:
        count, which = len(state.streamed_units), ranges_text(state.streamed_units)
        return (
            f"Weights of {count} of {num_units} units ({which}) wait on the host and are copied in "
            "for every use, the others stay on the device"
        )
    return f"Weights stay on the device{_in_8_bit(state.weights)}"


def _gradients(state: StatePlan) -> str:
    if state.gradients is Placement.HOST:
        return "gradients move to the host as soon as the backward of their unit has run"
    return f"gradients stay on the device{_in_8_bit(state.gradients)}"


def _optimizer(state: StatePlan) -> str:
    if state.optimizer is Placement.HOST:
        return "optimizer state lives on the host, where the optimizer steps"
    return f"optimizer state stays on the device{_in_8_bit(state.optimizer)}"


def _in_8_bit(placement: Placement) -> str:
    return " in 8 bit" if placement is Placement.EIGHT_BIT else ""


def _copies(memory: MemoryPlan) -> bool:
    groups = (group.checkpoint is Action.OFFLOAD for group in memory.groups)
    return any(groups) or any(Action.OFFLOAD in option.distinct for option in memory.options)


def _pace_sentence(memory: MemoryPlan) -> str:
    if not memory.paces:
        window, distance = memory.pace_of(0)
        return f"Host copies: offload window {window}, prefetch distance {distance}."
    paces = ", ".join(
        f"stage {stage}: {window} and {distance}"
        for stage, (window, distance) in enumerate(memory.paces)
    )
    return f"Host copies, offload window and prefetch distance by stage: {paces}."
