"""Folders of profiled runs, read, checked and deduplicated; what is broken is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remora.cost_models.dataset.campaign import CAMPAIGN_FILES, is_campaign, read_campaign
from remora.cost_models.dataset.live import with_live_rates
from remora.cost_models.dataset.merge import grouped, merge_runs, run_key
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.shard import SUFFIX, read_shard
from remora.errors import FileFormatError
from remora.garbage import uncollected
from remora.graph.model_graph import ModelGraph
from remora.graph.serialize import graph_from_json

__all__ = ["Dataset", "dataset_of", "read_dataset"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Profiled runs and what could not be read.

    Attributes:
        runs: one per subject and setting, all rounds together; each with its device as it was
            while the run was measured.
        faults: one sentence per shard that was skipped.
        rounds: the same figures with the rounds apart, to see how far a machine repeats itself.
    """

    runs: tuple[ProfiledRun, ...]
    faults: tuple[str, ...] = ()
    rounds: tuple[ProfiledRun, ...] = field(default=(), repr=False)


def read_dataset(*folders: Path) -> Dataset:
    """Read all shards of some folders; their order and copies of a shard change nothing.

    A folder holds shards, each of which appears whole or not at all and may be added while this
    reads, or the tables of ``benchmarks/gpu_campaign``. Broken, foreign and empty shards are
    skipped; each is logged and named in the result.

    Args:
        folders: one or more.

    Raises:
        FileFormatError: a folder is missing, or nothing in it can be read.
    """
    runs: list[ProfiledRun] = []
    faults: list[str] = []
    decode = _decode_once()
    with uncollected():
        for folder in folders:
            found, wrong = _read_folder(folder, decode)
            runs += found
            faults += wrong
        for fault in faults:
            _LOG.warning("skipped: %s", fault)
        return dataset_of(runs, faults)


def dataset_of(runs: Iterable[ProfiledRun], faults: Sequence[str] = ()) -> Dataset:
    """Deduplicate runs and put the rounds of each subject and setting together."""
    ordered = sorted(runs, key=_position)
    rounds = [merge_runs(same) for same in grouped(ordered, lambda run: (run_key(run), run.round))]
    merged = [merge_runs(same) for same in grouped(rounds, run_key)]
    return Dataset(with_live_rates(merged), tuple(faults), tuple(rounds))


def _position(run: ProfiledRun) -> tuple[Any, ...]:
    """Where a run stands, by what it is alone; figures decide between runs of one round."""
    steps = tuple((step.label, step.step_times_s) for step in run.steps)
    units = tuple((row.kind, row.runs.forward_op_s) for row in run.units)
    return (run.subject.model, *run_key(run), run.round, steps, units)


def _read_folder(
    folder: Path, decode: Callable[[str], ModelGraph]
) -> tuple[list[ProfiledRun], list[str]]:
    if not folder.is_dir():
        raise FileFormatError(f"there is no folder of profiled runs {folder}")
    runs, faults = _read_shards(_shards(folder), decode)
    if is_campaign(folder):
        measured, wrong = read_campaign(folder)
        runs, faults = runs + measured, faults + wrong
    if not runs:
        reason = f"; the first fault: {faults[0]}" if faults else ""
        raise FileFormatError(f"the folder {folder} has no shard that can be read{reason}")
    return runs, faults


def _shards(folder: Path) -> list[Path]:
    """Files that should be shards; writers begin the names of their temporary files with a dot."""
    others = CAMPAIGN_FILES if is_campaign(folder) else ()
    paths = (path for path in folder.glob(f"*{SUFFIX}") if path.name not in others)
    return sorted(path for path in paths if not path.name.startswith("."))


def _read_shards(
    paths: Iterable[Path], decode: Callable[[str], ModelGraph]
) -> tuple[list[ProfiledRun], list[str]]:
    runs, faults = [], []
    for path in paths:
        try:
            runs.append(read_shard(path, decode))
        except FileFormatError as error:
            faults.append(str(error))
    return runs, faults


def _decode_once() -> Callable[[str], ModelGraph]:
    """A decoder that gives the same graph for the same text: rounds and copies share theirs."""
    known: dict[str, ModelGraph] = {}

    def decode(text: str) -> ModelGraph:
        if text not in known:
            known[text] = graph_from_json(text)
        return known[text]

    return decode
