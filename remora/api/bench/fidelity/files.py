"""The files of ``bench fidelity``: fidelity.json for programs, fidelity.md for people."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from remora.api.bench.fidelity.figures import figures_of
from remora.api.bench.fidelity.points import Judgement
from remora.api.bench.fidelity.run import POINTS_NAME, FidelityRequest
from remora.api.bench.fidelity.tables import fidelity_sections
from remora.api.bench.quality import versions
from remora.api.bench.quality_files import section_text
from remora.hardware.local import device_name
from remora.report.files import write_json, write_text

__all__ = ["write_fidelity"]

_VERSION = 1


def write_fidelity(
    request: FidelityRequest, judgements: Sequence[Judgement], command: str, notes: Sequence[str]
) -> list[Path]:
    """Write the files beside the judgements.

    Args:
        request: what was judged.
        judgements: at least one.
        command: the command line.
        notes: sentences about the dataset, such as how far its machine repeats itself.

    Returns:
        All files.
    """
    about = _about(request, command)
    values = {"version": _VERSION, **about, "notes": list(notes), "figures": _figures(judgements)}
    write_json(request.out / "fidelity.json", values)
    write_text(request.out / "fidelity.md", _markdown(judgements, about, notes))
    return [request.out / name for name in ("fidelity.md", "fidelity.json", POINTS_NAME)]


def _markdown(judgements: Sequence[Judgement], about: dict[str, Any], notes: Sequence[str]) -> str:
    named = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    parts = [
        "# Cost models against measured runs",
        f"`{command}`" if (command := about["command"]) else "",
        *(section_text(section) for section in fidelity_sections(judgements)),
        "\n".join(f"- {note}" for note in notes),
        f"{about['date']}; {about['machine']}; {named}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Figures of every judgement, seen and left out by themselves."""
    return [
        {
            "method": one.method,
            "seed": one.seed,
            "left_out": one.left_out,
            "training_s": one.training_s,
            "training_cpu_s": one.training_cpu_s,
            "side": side,
            **_without_nan(asdict(figures_of([one], seen))),
        }
        for one in judgements
        for side, seen in (("seen", True), ("left_out", False))
    ]


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """NaN has no place in JSON."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values.items()
        if key != "interval"
    }


def _about(request: FidelityRequest, command: str) -> dict[str, Any]:
    packages = {name: version(name) for name in ("torch-geometric",)}
    return {
        "command": command,
        "seeds": list(request.seeds),
        "held_out_share": request.held_out_share,
        "training": asdict(request.training),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{device_name()}, {os.cpu_count()} cores",
        "versions": {**versions(), **packages},
    }
