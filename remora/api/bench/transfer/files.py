"""The files of ``bench transfer``: transfer.json for programs, transfer.md for people."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from remora.api.bench.quality import versions
from remora.api.bench.quality_files import section_text
from remora.api.bench.row_values import row_values, summary_values
from remora.api.bench.rows import Row
from remora.api.bench.summary import best_times, summarise
from remora.api.bench.tables import problem_section
from remora.api.bench.transfer.request import ROWS_NAME, TransferRequest
from remora.api.bench.transfer.run import TransferResult
from remora.api.bench.transfer.tables import group_of, in_group, transfer_sections
from remora.hardware.local import device_name
from remora.report.files import write_json, write_text

__all__ = ["write_transfer"]

_VERSION = 1


def write_transfer(request: TransferRequest, result: TransferResult) -> list[Path]:
    """Write the files beside the rows.

    Returns:
        The files that are for reading.
    """
    about = _about(request)
    best = best_times(result.rows)
    write_json(
        request.out / "transfer.json",
        {
            "version": _VERSION,
            **about,
            "groups": [asdict(group) for group in request.groups],
            "figures": _figures(result.rows),
            "trainings": [asdict(one) for one in result.trainings],
            "rows": [row_values(row, best) for row in result.rows],
            "notes": list(result.notes),
        },
    )
    write_text(request.out / "transfer.md", _markdown(request, result, about))
    return [request.out / name for name in ("transfer.md", "transfer.json", ROWS_NAME)]


def _markdown(request: TransferRequest, result: TransferResult, about: Mapping[str, Any]) -> str:
    named = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    groups = "\n".join(f"- {group.name}: {group.about}" for group in request.groups if group.about)
    parts = [
        "# A policy on what it never saw",
        f"`{request.command}`" if request.command else "",
        f"Every plan has {request.time_limit_s:g} s on one core; practice has "
        f"{request.fine_tune_s:g} s on two cores at most, on other problems of the same group. "
        f"From scratch = fresh weights that practise in the same way. Where no best schedule is "
        f"known, the best of all methods counts, among them a search of {request.reference_s:g} s "
        "(reference). Costs are those of the roofline.",
        groups,
        *(section_text(one) for one in transfer_sections(result.rows, result.trainings)),
        section_text(problem_section(result.rows)),
        "\n".join(f"- {note}" for note in result.notes),
        f"{about['date']}; {about['machine']}; {named}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every method by group."""
    return [
        {"group": group, **summary_values(one)}
        for group in dict.fromkeys(map(group_of, rows))
        for one in summarise(rows, in_group(group))
    ]


def _about(request: TransferRequest) -> dict[str, Any]:
    return {
        "command": request.command,
        "policy": dict(request.load().card),
        "problems": request.problems,
        "practice": asdict(request.practice),
        "fine_tune_s": request.fine_tune_s,
        "time_limit_s": request.time_limit_s,
        "reference_s": request.reference_s,
        "seeds": list(request.seeds),
        "jobs": request.jobs,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{device_name()}, {os.cpu_count()} cores",
        "versions": {**versions(), "torch-geometric": version("torch-geometric")},
    }
