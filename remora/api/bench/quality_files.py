"""The files of a comparison: quality.json for programs, quality.md for people."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remora.api.bench.quality import ROWS_NAME, QualityRequest, QualityResult, versions
from remora.api.bench.row_values import row_values, summary_values
from remora.api.bench.summary import best_times, summarise
from remora.api.bench.tables import Section, problem_section, sections
from remora.report.files import write_json, write_text

__all__ = ["markdown", "section_text", "write_quality"]

_VERSION = 1


def write_quality(request: QualityRequest, result: QualityResult) -> list[Path]:
    """Write the files beside the rows.

    Returns:
        All files of the comparison.
    """
    about, folder, best = _about(request), request.out, best_times(result.rows)
    methods = [summary_values(one) for one in summarise(result.rows)]
    write_json(
        folder / "quality.json",
        {
            "version": _VERSION,
            **about,
            "methods": methods,
            "rows": [row_values(row, best) for row in result.rows],
            "notes": list(result.notes),
        },
    )
    write_text(folder / "quality.md", markdown(request, result))
    return [folder / name for name in ("quality.md", "quality.json", ROWS_NAME)]


def markdown(request: QualityRequest, result: QualityResult) -> str:
    """The report of a comparison."""
    about = _about(request)
    named = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    parts = [
        f"# Suite {request.suite.name}",
        f"`{request.command}`" if request.command else "",
        f"{request.suite.about} {len(request.suite.problems)} problems; every run has "
        f"{request.time_limit_s:g} s.",
        *(section_text(section) for section in sections(result.rows)),
        section_text(problem_section(result.rows)),
        "\n".join(f"- {note}" for note in result.notes),
        f"{about['date']}; {about['machine']}; {named}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def section_text(section: Section) -> str:
    """A table with its heading as Markdown."""
    lines = [
        f"## {section.title}",
        "",
        section.about,
        "",
        _line(section.header),
        "|" + "---|" * len(section.header),
        *(_line(cells) for cells in section.rows),
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _about(request: QualityRequest) -> dict[str, Any]:
    return {
        "suite": request.suite.name,
        "command": request.command,
        "time_limit_s": request.time_limit_s,
        "seeds": list(request.seeds),
        "jobs": request.jobs,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
    }
