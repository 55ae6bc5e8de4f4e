"""Validate, lower and run a schedule; figures as an Estimate."""

from __future__ import annotations

from remora.schedule.lowering import lower
from remora.schedule.problem import Problem
from remora.schedule.program import InstructionKind
from remora.schedule.schedule import Schedule
from remora.schedule.validate import validate
from remora.simulator.engine import run
from remora.simulator.records import Estimate
from remora.simulator.timeline import Timeline


def simulate(problem: Problem, schedule: Schedule) -> Timeline:
    """Predict the run of ``schedule`` with the costs of the problem or of its variant.

    Args:
        problem: graphs, costs, hardware and budget; the budget does not change the run.
        schedule: made for the graph of the problem or of one of its variants.

    Returns:
        Start and end of every instruction in seconds, and the memory of every rank in bytes.

    Raises:
        InvalidInputError: the schedule breaks a rule; it is not simulated.
    """
    validate(problem, schedule)
    return run(lower(problem.variant_of(schedule), schedule))


def estimate(problem: Problem, schedule: Schedule, cost_model: str) -> Estimate:
    """Predict the figures of ``schedule``; the bound is the peak itself, uncalibrated.

    Args:
        problem: see :func:`simulate`.
        schedule: see :func:`simulate`.
        cost_model: name of what priced the problem, kept in the estimate.

    Raises:
        InvalidInputError: the schedule breaks a rule.
    """
    timeline = simulate(problem, schedule)
    latency_s, sequences_per_s = pass_figures(problem, schedule, timeline)
    return Estimate(
        step_time_s=timeline.step_time_s,
        peak_memory_bytes=timeline.max_peak_bytes,
        peak_by_rank_bytes=timeline.peak_bytes,
        peak_bound_bytes=timeline.max_peak_bytes,
        bound_confidence=0.0,
        breakdown_bytes={kind.value: size for kind, size in timeline.peak_breakdown.items()},
        host_bytes=max(timeline.host_peak_bytes),
        cost_model=cost_model,
        latency_s=latency_s,
        sequences_per_s=sequences_per_s,
    )


def pass_figures(
    problem: Problem, schedule: Schedule, timeline: Timeline
) -> tuple[float | None, float | None]:
    """Latency and throughput of a simulated pass; none for a step of training.

    Args:
        problem: of inference, or of training.
        schedule: what was simulated.
        timeline: its simulated run.

    Returns:
        Seconds until the first micro-batch has left the last stage, and sequences per second of
        all replicas.
    """
    spec = problem.inference
    if spec is None:
        return None, None
    ends = [
        event.end_s
        for event in timeline.events
        if event.instruction.kind is InstructionKind.FORWARD and event.instruction.micro_batch == 0
    ]
    replicas = problem.num_groups // schedule.pipeline.num_ranks
    seconds = timeline.step_time_s
    return max(ends), replicas * spec.sequences / seconds if seconds > 0 else float("inf")
