"""The report of a campaign as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.gpu_campaign.journal import FAULTS, OK, Record
from benchmarks.gpu_campaign.part_process import PartState
from benchmarks.recording import table

__all__ = ["report"]

Parts = Mapping[str, PartState]
Cells = list[str]

PEAK_TOLERANCE = 0.03
TIME_TOLERANCE = 0.15


def report(about: Mapping[str, Any], parts: Parts) -> str:
    """Everything that was found, most important first.

    Args:
        about: device, versions, date and seconds.
        parts: states by name.
    """
    blocks = [
        "# GPU campaign",
        f"`{about['command']}`\n\n{about['device']}; torch {about['torch']}, CUDA "
        f"{about['cuda'] or 'none'}, python {about['python']}; {about['date']}; "
        f"{about['seconds']:.0f} s in all.",
        *_block("Predicted against measured", _prediction_note(parts), _PREDICTION, parts),
        *_block("Gradients", "Plan against the plain model.", _GRADIENTS, parts),
        *_block("Host copies hidden behind computation", _OVERLAP_NOTE, _OVERLAP, parts),
        *_block("Shares of the plain peak", _PROTOCOL_NOTE, _PROTOCOL, parts),
        *_block("Beside PyTorch's own ways", _ALTERNATIVES_NOTE, _ALTERNATIVES, parts),
        *_block("Largest batch", "", _LARGEST, parts),
        *_faults(parts),
        *_parts(parts),
    ]
    return "\n\n".join(blocks) + "\n"


class _Table:
    """Columns of one table: a head and what stands below it.

    Args:
        sections: whose records are its rows.
        columns: head, and the cell of a record's figures.
    """

    def __init__(
        self, sections: Sequence[str], columns: Mapping[str, Callable[[Mapping[str, Any]], str]]
    ) -> None:
        self.sections = sections
        self.columns = columns

    def rows(self, parts: Parts) -> list[Cells]:
        """The records that have something to show."""
        rows = []
        for name, record in _records(parts, self.sections):
            cells = [_cell(get, record) for get in self.columns.values()]
            if any(cells):
                rows.append([name, record.label, *cells])
        return rows


def _cell(get: Callable[[Mapping[str, Any]], str], record: Record) -> str:
    try:
        return get(record.figures)
    except KeyError:
        return ""


def _mib(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: f"{figures[key] / 2**20:.1f}"


def _ms(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: f"{figures[key] * 1e3:.2f}"


def _percent(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: f"{figures[key]:+.1%}"


def _plain(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: str(figures[key])


_PREDICTION = _Table(
    ("prediction",),
    {
        "peak MiB predicted": _mib("predicted_peak_bytes"),
        "allocated": _mib("step_peak_bytes"),
        "error": _percent("peak_error"),
        "reserved": _mib("peak_reserved_bytes"),
        "libraries": _mib("library_bytes"),
        "step ms predicted": _ms("predicted_step_time_s"),
        "measured": _ms("step_time_s"),
        "time error": _percent("time_error"),
    },
)
_GRADIENTS = _Table(
    ("gradients", "real_gradients"),
    {
        "model": _plain("model"),
        "passed": _plain("passed"),
        "failures": lambda figures: ", ".join(figures["failures"]),
        "largest relative difference": lambda figures: f"{figures['max_gradient_difference']:.1e}",
        "in": _plain("worst_gradient"),
    },
)
_OVERLAP = _Table(
    ("overlap",),
    {
        "step ms": _ms("step_time_s"),
        "copies alone ms": _ms("copies_s"),
        "MiB each way": _mib("bytes_each_way"),
        "shown ms": _ms("shown_s"),
        "hidden": _percent("hidden_share"),
        "step ms predicted": _ms("predicted_step_time_s"),
    },
)
_OVERLAP_NOTE = (
    "What the step takes longer than the one that keeps everything is what of the copies shows. "
    "On a CPU nothing can be hidden."
)
_PROTOCOL = _Table(
    ("protocol",),
    {
        "share asked": _percent("asked_share"),
        "share measured": _percent("measured_share"),
        "peak MiB": _mib("peak_allocated_bytes"),
        "step ms": _ms("step_time_s"),
        "overhead": _percent("overhead"),
        "predicted": _percent("predicted_overhead"),
        "published": _percent("published_overhead"),
    },
)
_PROTOCOL_NOTE = (
    "The published overheads are MONeT's on another card; peaks are allocated bytes, with what "
    "libraries keep."
)
_ALTERNATIVES = _Table(
    ("alternatives", "compiler"),
    {
        "step ms": _ms("step_time_s"),
        "peak MiB": _mib("peak_allocated_bytes"),
        "reserved MiB": _mib("peak_reserved_bytes"),
        "time over theirs": lambda figures: f"{figures['time_over_theirs']:.3f}",
        "peak over theirs": lambda figures: f"{figures['peak_over_theirs']:.3f}",
    },
)
_ALTERNATIVES_NOTE = (
    "`ours at X` is the best plan whose predicted peak is not above that of X. Compiled models "
    "have other kernels, so compare them with `compile, budget 1` too."
)
_LARGEST = _Table(
    ("largest_batch",),
    {
        "limit MiB": _mib("limit_bytes"),
        "predicted plain": _plain("predicted_plain"),
        "predicted planned": _plain("predicted_planned"),
        "within": _plain("within"),
        "reserved MiB": _mib("peak_reserved_bytes"),
        "samples/s": lambda figures: f"{figures['samples_per_s']:.1f}",
    },
)


def _block(title: str, note: str, content: _Table, parts: Parts) -> Iterator[str]:
    rows = content.rows(parts)
    if rows:
        yield f"## {title}"
        if note:
            yield note
        used = [i for i in range(len(rows[0])) if any(row[i] for row in rows)]
        head = ["part", "what", *content.columns]
        yield table([head[i] for i in used], [[row[i] for i in used] for row in rows])


def _prediction_note(parts: Parts) -> str:
    found = [r.figures for _, r in _records(parts, ("prediction",)) if "time_error" in r.figures]
    if not found:
        return ""
    peaks = [abs(figures["peak_error"]) for figures in found]
    times = [abs(figures["time_error"]) for figures in found]
    within = sum(e <= PEAK_TOLERANCE for e in peaks), sum(e <= TIME_TOLERANCE for e in times)
    return (
        f"{len(found)} schedules. Peak (allocated, without what libraries keep): {within[0]} "
        f"within {PEAK_TOLERANCE:.0%}, median {statistics.median(peaks):.2%}, worst "
        f"{max(peaks):.2%}. Step time: {within[1]} within {TIME_TOLERANCE:.0%}, median "
        f"{statistics.median(times):.1%}, worst {max(times):.1%}."
    )


def _faults(parts: Parts) -> Iterator[str]:
    rows = [
        [name, record.section, record.label, str(record.batch or ""), record.status, record.detail]
        for name, state in parts.items()
        for record in state.records
        if record.status in FAULTS
    ]
    if rows:
        yield "## Faults"
        safe = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
        yield table(["part", "section", "what", "batch", "status", "detail"], safe)


def _parts(parts: Parts) -> Iterator[str]:
    yield "## Parts"
    rows = []
    for name, state in parts.items():
        ok, skipped = (sum(r.status == s for r in state.records) for s in (OK, "skipped"))
        rows.append(
            [
                name,
                state.status,
                f"{state.seconds:.0f}",
                f"{ok} / {skipped} / {len(state.faults)}",
                state.detail,
            ]
        )
    yield table(["part", "status", "seconds", "ok / skipped / faults", "detail"], rows)
    reasons = [
        [name, record.section, record.label, record.detail.replace("|", "/").replace("\n", " ")]
        for name, record in _records(parts, ())
        if record.status == "skipped"
    ]
    if reasons:
        yield "## Skipped"
        yield table(["part", "section", "what", "reason"], reasons)


def _records(parts: Parts, sections: Sequence[str]) -> Iterator[tuple[str, Record]]:
    """Records of some sections, or of all, with the names of their parts."""
    for name, state in parts.items():
        for record in state.records:
            if not sections or record.section in sections:
                yield name, record
