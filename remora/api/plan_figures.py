"""The pictures of a report as files of their own."""

from __future__ import annotations

from pathlib import Path

from remora.errors import InvalidInputError
from remora.report.charts import unit_drawing
from remora.report.content import ReportContent
from remora.report.drawings import memory_drawing, pipeline_drawing
from remora.report.files import write_bytes
from remora.report.rendering import FORMS

__all__ = ["check_form", "write_figures"]


def check_form(form: str) -> None:
    """Refuse a form that cannot be written.

    Raises:
        InvalidInputError: there is no such form.
    """
    if form not in FORMS:
        raise InvalidInputError(f"figures is {form!r}, allowed: {', '.join(FORMS)}")


def write_figures(content: ReportContent, folder: Path, form: str) -> tuple[Path, ...]:
    """Write pipeline, memory, units, and what a real run did if that was recorded.

    Args:
        content: what to draw.
        folder: where the files go.
        form: of the files.

    Raises:
        InvalidInputError: there is no such form.
    """
    check_form(form)
    measured = content.measured
    drawn = {
        "pipeline": pipeline_drawing(content.timeline, form),
        "memory": memory_drawing(content.timeline, content.budget_bytes, form, measured),
        "units": unit_drawing(content.choices, form),
    }
    if measured is not None:
        drawn["measured"] = pipeline_drawing(measured, form)
    paths = []
    for name, picture in drawn.items():
        path = folder / f"{name}.{form}"
        write_bytes(path, picture)
        paths.append(path)
    return tuple(paths)
