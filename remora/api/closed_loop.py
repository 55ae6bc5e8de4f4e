"""Search, measure the best answers, learn from them, and search again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remora.api.cost_model_choice import GNN, learned_cost_model
from remora.api.loop_state import LoopState, Round, Verify
from remora.api.model_source import ModelSource
from remora.api.request import Progress, Request
from remora.errors import InvalidInputError, ModelRunError
from remora.report.content import CandidateRow
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Verification

__all__ = ["LoopRequest", "LoopResult", "Round", "check_loop", "run_loop"]


@dataclass(frozen=True)
class LoopRequest:
    """How often to search and how much to measure.

    Attributes:
        rounds: searches.
        top_k: schedules that are measured in every round.
        dataset: folder that the measured steps are added to.
    """

    rounds: int
    top_k: int
    dataset: Path

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("rounds", "top_k"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, allowed: 1 or more")


@dataclass(frozen=True)
class LoopResult:
    """The end of the loop.

    Attributes:
        schedule: the fastest one that was measured and passed.
        estimate: what the refitted model says of it.
        verification: what its run showed.
        rounds: in order.
        candidates: of the last search.
        search_s: seconds of all searches.
        shards: the files with the measured steps, one for every graph that ran.
    """

    schedule: Schedule
    estimate: Estimate
    verification: Verification
    rounds: tuple[Round, ...]
    candidates: tuple[CandidateRow, ...]
    search_s: float
    shards: tuple[Path, ...]


def check_loop(request: Request, local: bool) -> None:
    """Refuse a loop that could not learn.

    Args:
        request: what is planned.
        local: whether the hardware is the machine at hand.

    Raises:
        InvalidInputError: another cost model than ``gnn``, another device than this one, or
            several of them.
    """
    if request.cost_model != GNN:
        raise InvalidInputError(
            f"cost_model is {request.cost_model!r}, allowed with several rounds: gnn, since the "
            "others learn nothing from a measured step"
        )
    if not local:
        raise InvalidInputError(
            f"hardware is {request.hardware!r}, allowed with several rounds: local, since "
            "schedules are measured"
        )
    if request.world_size != 1 or request.micro_batches not in (None, 1):
        raise InvalidInputError(
            f"world_size is {request.world_size} and micro_batches {request.micro_batches}, "
            "allowed with several rounds: 1 and 1"
        )


def run_loop(
    problem: Problem,
    request: Request,
    loop: LoopRequest,
    source: ModelSource,
    verify: Verify,
    progress: Progress | None = None,
) -> LoopResult:
    """Plan in rounds, each of which measures and learns.

    Every round searches with operator times that agree with the steps measured so far, puts all
    schedules found so far in the order of the learned step time, measures the first ``top_k``
    that were not measured yet and whose bound on the peak is within the budget, and refits what
    the learned model leaves over. Where units may compute in fewer bits, every assignment of
    precisions has a graph of its own and learns from its own steps. A round that has nothing new
    to measure is the last.

    Args:
        problem: what to plan, with costs of ``gnn``.
        request: names scheduler, time limit and weights.
        loop: rounds and what is measured.
        source: how the model is built, for the dataset.
        verify: runs a schedule.
        progress: told when pieces of work begin.

    Raises:
        InfeasibleError: nothing fits.
        ModelRunError: not one schedule that ran passed.
    """
    state = LoopState(problem, request, learned_cost_model(request.cost_model_weights))
    progress = progress or Progress()
    rounds: list[Round] = []
    for number in range(1, loop.rounds + 1):
        progress.stage(f"round {number}: searching with {request.agent}")
        chosen = state.search(progress, loop.top_k)
        for place, schedule in enumerate(chosen, start=1):
            progress.stage(f"round {number}: measuring schedule {place} of {len(chosen)}")
            state.measure(schedule, verify, f"round {number} schedule {place}")
        rounds.append(state.closed_round(number, len(chosen)))
        if not chosen:
            break
    best = state.best()
    shards = state.append_steps(loop.dataset, source)
    if best is None:
        raise ModelRunError(
            f"none of the {len(state.measured)} schedules that ran passed its verification; the "
            f"last: {', '.join(state.measured[-1].verification.failures)}"
        )
    return LoopResult(
        schedule=best.schedule,
        estimate=state.estimate(best.schedule),
        verification=best.verification,
        rounds=tuple(rounds),
        candidates=state.candidates,
        search_s=state.search_s,
        shards=shards,
    )
