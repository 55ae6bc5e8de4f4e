"""Run a part in fresh processes until nothing of it is left, it is hopeless, or time is up."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_campaign.journal import FAULTS, Record, Told, read_journal
from benchmarks.gpu_campaign.parts import Part
from remora.api.rank_processes import Ended, run_ranks
from remora.report.files import write_json

__all__ = ["SHRINKING", "PartState", "run_part"]

WORKER = "benchmarks.gpu_campaign.worker"

SHRINKING = frozenset({"prediction", "overlap", "protocol", "real_gradients"})
"""Sections that are asked again at half the batch after lack of memory."""

_MOST_DEATHS = 6
_DEATHS_AT_START = 2
_ENDING_S = 2.0
"""A worker is asked to be done so much earlier than it would be ended."""


@dataclass
class PartState:
    """What is known of a part, from all of its processes.

    Attributes:
        status: ``waiting``, ``partial``, ``done``, ``failed`` (it died too often) or ``skipped``.
        detail: why it is skipped or failed.
        batch: samples of its next process; 0 for those of the part.
        deaths: processes that died.
        seconds: of all its processes.
        finished: sections of which nothing is left.
        records: of all items, at all batches.
    """

    status: str = "waiting"
    detail: str = ""
    batch: int = 0
    deaths: int = 0
    seconds: float = 0.0
    finished: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether it is not run again."""
        return self.status in ("done", "failed", "skipped")

    @property
    def faults(self) -> list[Record]:
        """Records of what went wrong."""
        return [record for record in self.records if record.status in FAULTS]

    def values(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> PartState:
        """From plain values."""
        records = [Record(**record) for record in values["records"]]
        return cls(**{**values, "records": records})


def run_part(part: Part, state: PartState, device: str, seconds: float, told: list[Told]) -> None:
    """Go on with a part; an interruption leaves what was told until then behind.

    Args:
        part: what to run.
        state: changed in place.
        device: ``cuda`` or ``cpu``.
        seconds: until all processes have to be gone.
        told: receives what its processes told, for their rows.
    """
    deadline_s = time.monotonic() + seconds
    if importlib.util.find_spec(part.library) is None:
        state.status, state.detail = "skipped", f"the package {part.library!r} is not installed"
        return
    state.status = "partial"
    while _left(part, state) and not state.ended:
        left_s = deadline_s - time.monotonic()
        if left_s < min(part.least_s, seconds):
            break
        before = (len(state.records), len(state.finished), state.batch)
        _run_process(part, state, device, left_s, told)
        if before == (len(state.records), len(state.finished), state.batch):
            # It had no time for another item.
            break
    if not _left(part, state) and not state.ended:
        state.status = "done"


def _left(part: Part, state: PartState) -> list[str]:
    return [section for section in part.sections if section not in state.finished]


def _run_process(
    part: Part, state: PartState, device: str, left_s: float, told: list[Told]
) -> None:
    limit_s = min(part.limit_s, left_s)
    ended: Ended | None = None
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="remora-campaign-") as name:
        request, journal = Path(name) / "request.json", Path(name) / "journal.jsonl"
        known = [
            record
            for record in state.records
            if record.batch == state.batch or record.section not in SHRINKING
        ]
        content = {
            "part": dataclasses.asdict(part),
            "batch": state.batch,
            "device": device,
            "sections": _left(part, state),
            "known": [dataclasses.asdict(record) for record in known],
            "seconds": limit_s - _ENDING_S,
        }
        write_json(request, content)
        try:
            ended = run_ranks(WORKER, [str(request), str(journal)], 1, limit_s)
        finally:
            now = read_journal(journal)
            told.append(now)
            state.seconds += time.monotonic() - start_s
            state.records += now.records
            state.finished += [s for s in now.finished if s not in state.finished]
    _judge(part, state, now, ended, out_of_time=limit_s >= left_s)


def _judge(part: Part, state: PartState, now: Told, ended: Ended, out_of_time: bool) -> None:
    """Note what a process died of, and find the batch of the next one."""
    fresh = list(now.records)
    if ended.status != "ok" and not (ended.status == "timed_out" and out_of_time):
        state.deaths += 1
        begun = now.begun or Record("process", f"start {state.deaths}", state.batch)
        fresh.append(dataclasses.replace(begun, status=ended.status, detail=ended.detail))
        state.records.append(fresh[-1])
    if any(r.status == "out_of_memory" and r.section in SHRINKING for r in fresh):
        _halve(part, state)
    deaths_at_start = sum(record.section == "process" for record in state.records)
    if state.deaths >= _MOST_DEATHS or deaths_at_start >= _DEATHS_AT_START:
        state.status = "failed"
        state.detail = f"{state.deaths} of its processes died, the last so: {ended.detail}"


def _halve(part: Part, state: PartState) -> None:
    """Ask for half the batch; where that is not known or is one sample, the faults stand."""
    batch = state.batch or int(part.values.get("batch", 0))
    if batch > 1:
        state.batch = batch // 2
