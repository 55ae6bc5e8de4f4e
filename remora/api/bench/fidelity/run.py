"""Every family left out once per seed, in processes of their own; what is done is kept."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from remora.api.bench.fidelity.methods import judgements
from remora.api.bench.fidelity.points import Judgement, append_judgements, read_judgements
from remora.cost_models.dataset.dataset import read_dataset
from remora.cost_models.dataset.families import CALIBRATION
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.split import Split, hold_out, leave_family_out
from remora.cost_models.gnn.training import CostModelConfig
from remora.errors import InvalidInputError, UnknownNameError

__all__ = ["POINTS_NAME", "FidelityRequest", "run_fidelity", "split_of"]

POINTS_NAME = "judgements.jsonl"


@dataclass(frozen=True)
class FidelityRequest:
    """What to judge.

    Attributes:
        datasets: folders of profiled runs.
        families: to leave out, one after the other; None for all of the dataset.
        seeds: of splits and trainings.
        held_out_share: share of the subjects of every other family that judge too.
        baseline_seeds: seeds with which the other methods are judged.
        training: of the learned model; its seed plays no part.
        jobs: processes at once, one thread each.
        out: folder.
        resume: go on from what is there.
    """

    datasets: tuple[Path, ...]
    training: CostModelConfig
    out: Path
    families: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    held_out_share: float = 0.15
    baseline_seeds: tuple[int, ...] = (0,)
    jobs: int = 1
    resume: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.jobs < 1:
            raise InvalidInputError(f"jobs is {self.jobs}, allowed: 1 or more")
        if not self.seeds:
            raise InvalidInputError("seeds is empty, allowed: one or more")


def run_fidelity(
    request: FidelityRequest,
    watch: Callable[[Judgement, int, int], None] = lambda judgement, done, total: None,
) -> list[Judgement]:
    """Judge; every judgement is in the file as soon as it is there.

    Args:
        request: what to judge.
        watch: is told every new judgement, how many splits are done, and of how many.

    Raises:
        InvalidInputError: the folder has judgements and ``resume`` is false, or a family is small.
        UnknownNameError: no such family.
        FileFormatError: a dataset or the file cannot be read.
    """
    path = request.out / POINTS_NAME
    found = read_judgements(path)
    if found and not request.resume:
        raise InvalidInputError(
            f"out is {str(request.out)!r}, which has judgements of an earlier run; allowed: "
            "another folder, or resume=true"
        )
    runs = read_dataset(*request.datasets).runs
    families = _families(runs, request.families)
    splits = [(seed, family) for seed in request.seeds for family in families]
    done = {(one.seed, one.left_out) for one in found}
    todo = [split for split in splits if split not in done]
    for seed, family in todo:
        split_of(runs, family, seed, request.held_out_share)
    count = len(splits) - len(todo)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(request.jobs, context, _one_thread) as pool:
        waiting = [pool.submit(_judge, request, seed, family) for seed, family in todo]
        try:
            for future in as_completed(waiting):
                count += 1
                found += _keep(path, future, watch, count, len(splits))
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    order = {split: place for place, split in enumerate(splits)}
    return sorted(
        (one for one in found if (one.seed, one.left_out) in order),
        key=lambda one: order[one.seed, one.left_out],
    )


def split_of(runs: Sequence[ProfiledRun], family: str, seed: int, share: float) -> Split:
    """Leave a family out, and hold back a share of every other one.

    Returns:
        Runs that teach; runs that judge: the family, and what was held back.
    """
    others, left_out = leave_family_out(runs, family)
    teaching, held_out = hold_out(others, share, seed)
    return teaching, (*left_out, *held_out)


def _keep(
    path: Path,
    future: Future[list[Judgement]],
    watch: Callable[[Judgement, int, int], None],
    count: int,
    total: int,
) -> list[Judgement]:
    judged = future.result()
    append_judgements(path, judged)
    for judgement in judged:
        watch(judgement, count, total)
    return judged


def _families(runs: Sequence[ProfiledRun], asked: tuple[str, ...] | None) -> tuple[str, ...]:
    known = sorted({run.subject.family for run in runs} - {CALIBRATION})
    for family in asked or ():
        if family not in known:
            raise UnknownNameError("family", family, known)
    return tuple(known) if asked is None else asked


def _judge(request: FidelityRequest, seed: int, family: str) -> list[Judgement]:
    """One split, in a process of its own."""
    runs = read_dataset(*request.datasets).runs
    split = split_of(runs, family, seed, request.held_out_share)
    config = replace(request.training, seed=seed)
    return list(judgements(split, config, family, seed in request.baseline_seeds))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
