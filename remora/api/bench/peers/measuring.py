"""Every peer at its settings, and Remora at the peak that each of them needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from remora.api.bench.peers.checkpoints import PEERS, Peer, Subject
from remora.api.plan import Plan
from remora.api.planning import Request, make_plan, state_problem, traced_graphs
from remora.errors import InfeasibleError, MissingExtraError, TimeLimitError
from remora.executor.measure import measure
from remora.executor.memory.install import Handle
from remora.executor.step import TrainingStep, preserved
from remora.schedule.problem import Problem
from remora.simulator.records import Measurement
from remora.zoo import Example

__all__ = ["PeerRow", "Point", "measured_peers", "problem_of"]

Stage = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """What a run showed.

    Attributes:
        step_time_s: the fastest of the repetitions; on a CPU the processor's time for it, which
            other work on the machine disturbs little.
        peak_bytes: measured.
        search_s: seconds before the first step; those of compiling included.
        note: why there is no figure; empty if there is one.
    """

    step_time_s: float | None = None
    peak_bytes: int | None = None
    search_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class PeerRow:
    """A peer at one setting, and Remora at the same peak.

    Attributes:
        model: that was trained.
        peer: its name.
        setting: of the peer; None where there is nothing to set.
        base_step_s: of the same kernels with nothing spent on memory.
        theirs, ours: both runs; ``ours`` is within the peak of ``theirs``.
    """

    model: str
    peer: str
    setting: float | None
    base_step_s: float | None
    theirs: Point
    ours: Point


def problem_of(example: Example, model_name: str, cost_model: str, world_size: int = 1) -> Problem:
    """The step of an example on devices like this machine, with a budget that everything fits.

    Args:
        example: the model for real.
        model_name: in messages.
        cost_model: as in :func:`remora.optimize`.
        world_size: number of ranks; state stays on the device.
    """
    request = Request(memory="300%", cost_model=cost_model, world_size=world_size, move_state=False)
    return state_problem(traced_graphs(example, request, None, model_name), request, None, example)


def measured_peers(
    model_name: str,
    example: Example,
    problem: Problem,
    repetitions: int,
    time_limit_s: float,
    stage: Stage = lambda text: None,
) -> list[PeerRow]:
    """Measure the peers on one model, each beside Remora's plan for the same peak.

    Args:
        model_name: in the rows.
        example: the model; it is trained, and restored at the end.
        problem: of its step.
        repetitions: timed steps of every run.
        time_limit_s: seconds of each of our searches.
        stage: told what is measured.
    """
    subject = Subject(example.model, problem.graph, problem.cost)
    with preserved(example.model) as state:
        plain = _run(example, example.model, repetitions)
        state.restore()
        rows = [PeerRow(model_name, "nothing", None, plain.step_time_s, plain, plain)]
        for peer in PEERS:
            base_s = None if peer.compiles else plain.step_time_s
            for setting in peer.settings:
                stage(f"{model_name}: {peer.name}" + ("" if setting is None else f" {setting:g}"))
                theirs = _peer_point(example, subject, problem, peer, setting, repetitions)
                state.restore()
                base_s = theirs.step_time_s if base_s is None else base_s
                ours, peak = Point(note="no peak to compare with"), theirs.peak_bytes
                if peak is not None:
                    ours = _our_point(example, problem, peak, repetitions, time_limit_s)
                    state.restore()
                rows.append(PeerRow(model_name, peer.name, setting, base_s, theirs, ours))
    return rows


def _peer_point(
    example: Example,
    subject: Subject,
    problem: Problem,
    peer: Peer,
    setting: float | None,
    repetitions: int,
) -> Point:
    if problem.hardware.host.unified and not peer.on_unified:
        return Point(note="host and device are one memory here, so it moves nothing")
    start_s = time.perf_counter()
    try:
        with peer.in_effect(subject, setting) as runner:
            search_s = time.perf_counter() - start_s
            return _run(example, runner, repetitions, search_s, first_counts=peer.compiles)
    except MissingExtraError as error:
        return Point(note=str(error))


def _our_point(
    example: Example, problem: Problem, budget_bytes: int, repetitions: int, time_limit_s: float
) -> Point:
    """Plan for a peak and run the plan."""
    request = Request(memory=budget_bytes, agent="best", time_limit_s=time_limit_s)
    try:
        plan: Plan = make_plan(problem.with_budget(budget_bytes), request)
    except (InfeasibleError, TimeLimitError) as error:
        return Point(note=str(error))
    with plan.apply(example.model) as handle:
        return _run(example, example.model, repetitions, plan.search_s, handle)


def _run(
    example: Example,
    runner: torch.nn.Module,
    repetitions: int,
    search_s: float = 0.0,
    handle: Handle | None = None,
    first_counts: bool = False,
) -> Point:
    """Measure steps; a run that dies is a point with its reason.

    Args:
        example: batch and loss.
        runner: is called instead of the model.
        repetitions: timed steps.
        search_s: seconds before.
        handle: of our plan.
        first_counts: whether the first step compiles, which counts as search.
    """
    step = TrainingStep(runner, example.example_inputs, example.loss, "adamw", handle)
    if first_counts:
        start_s = time.perf_counter()
        try:
            step.run()
        except Exception as error:
            return Point(note=f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")
        search_s += time.perf_counter() - start_s
    device = next(example.model.parameters()).device
    # On CUDA the repetitions count; on a CPU they warm up, and the peak is taken.
    found: Measurement = measure(step, device, repetitions, 2)
    if found.status != "ok":
        return Point(note=found.detail.splitlines()[0][:120])
    seconds = list(found.step_times_s)
    if device.type == "cpu":
        seconds = [_processor_s(step) for _ in range(repetitions)]
    example.model.zero_grad(set_to_none=True)
    return Point(min(seconds), found.peak_memory_bytes, search_s)


def _processor_s(step: TrainingStep) -> float:
    """Seconds that each thread of this process computes for a step, whoever else wants the CPU."""
    start_s = time.process_time()
    step.run()
    return (time.process_time() - start_s) / torch.get_num_threads()
