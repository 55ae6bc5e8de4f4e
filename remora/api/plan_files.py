"""A plan as files: schedule.json, estimate.json and problem.json, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import remora
from remora.api.model_source import ModelSource
from remora.api.plan import Plan
from remora.api.problem_file import (
    inference_from_values,
    inference_values,
    problem_from_values,
    problem_to_values,
)
from remora.api.saved_model import SavedModel, saved_model
from remora.api.timeline_values import timeline_from_values
from remora.errors import FileFormatError, InvalidInputError, UsageError
from remora.garbage import uncollected
from remora.report.content import CandidateRow
from remora.report.files import read_json, read_text, write_json, write_text
from remora.schedule.inference import InferenceSpec
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.simulator.records import Estimate, Measurement, PrecisionError, Verification
from remora.tracking.artifacts import refuse_targets

__all__ = [
    "ESTIMATE_NAME",
    "PROBLEM_NAME",
    "SCHEDULE_NAME",
    "VERIFICATION_NAME",
    "SavedEstimate",
    "load",
    "read_estimate",
    "read_schedule",
    "save_plan",
    "verification_from_values",
]

SCHEDULE_NAME = "schedule.json"
ESTIMATE_NAME = "estimate.json"
PROBLEM_NAME = "problem.json"
ESTIMATE_VERSION = 1
PROBLEM_VERSION = 1

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class SavedEstimate:
    """What ``estimate.json`` says beside a schedule.

    Attributes:
        graph_hash: of the model and batch that were planned for.
        hardware: name of the hardware that was planned for.
        budget_bytes: memory per device.
        optimizer: name of the optimizer that was counted.
        estimate: predicted figures.
        lower_bound_s, agent, search_s, candidates, units, cost_reason: as in :class:`Plan`.
        model: how to build the model again; None if that is not known.
        inference: tokens and cache; None for a schedule of training.
    """

    graph_hash: str
    hardware: str
    budget_bytes: int
    optimizer: str
    estimate: Estimate
    lower_bound_s: float
    agent: str
    search_s: float
    candidates: tuple[CandidateRow, ...]
    units: tuple[str, ...] | None
    model: SavedModel | None
    cost_reason: str
    inference: InferenceSpec | None = None


VERIFICATION_NAME = "verification.json"
"""The verdict of a real run, beside the plan."""


def save_plan(plan: Plan, folder: Path) -> tuple[Path, ...]:
    """Write the three files of a plan into ``folder`` and return their paths.

    The verdict of an earlier plan that lies there goes.
    """
    verdict = folder / VERIFICATION_NAME
    if plan.verification is None and verdict.is_file():
        verdict.unlink()
    paths = tuple(folder / name for name in (SCHEDULE_NAME, ESTIMATE_NAME, PROBLEM_NAME))
    write_text(paths[0], schedule_to_json(plan.schedule) + "\n")
    write_json(paths[1], _estimate_values(plan))
    write_json(paths[2], {"version": PROBLEM_VERSION, **problem_to_values(plan.problem)})
    return paths


def load(folder: str | Path) -> Plan:
    """Read a plan that :meth:`Plan.save` or the command ``optimize`` wrote.

    Args:
        folder: the folder of ``schedule.json``, ``estimate.json`` and ``problem.json``.

    Raises:
        FileFormatError: a file is missing, cut short, of another version, or of another plan.
    """
    with uncollected():
        return _load(Path(folder))


def _load(folder: Path) -> Plan:
    saved = read_estimate(folder / ESTIMATE_NAME)
    schedule = read_schedule(folder / SCHEDULE_NAME, saved.graph_hash)
    path = folder / PROBLEM_NAME
    values = read_json(path, "problem", PROBLEM_VERSION)
    refuse_targets(values, str(path))
    problem = _parsed(path, lambda: problem_from_values(values))
    if problem.graph.content_hash != saved.graph_hash:
        raise FileFormatError(f"{path} belongs to another model than {folder / ESTIMATE_NAME}")
    return Plan(
        problem=problem,
        schedule=schedule,
        estimate=saved.estimate,
        lower_bound_s=saved.lower_bound_s,
        candidates=saved.candidates,
        agent=saved.agent,
        search_s=saved.search_s,
        cost_reason=saved.cost_reason,
        units=saved.units,
        source=_source(saved.model),
    )


def read_schedule(path: Path, expected_graph_hash: str | None = None) -> Schedule:
    """Read ``schedule.json``.

    Raises:
        FileFormatError: the message names the file and what is wrong with it.
    """
    text = read_text(path, "schedule")
    try:
        return schedule_from_json(text, expected_graph_hash)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error


def read_estimate(path: Path) -> SavedEstimate:
    """Read ``estimate.json``.

    Raises:
        FileFormatError: missing, cut short, of another version, or a field is garbled.
    """
    values = read_json(path, "estimate", ESTIMATE_VERSION)
    refuse_targets(values, str(path))
    return _parsed(path, lambda: _saved_estimate(values))


def verification_from_values(values: Mapping[str, Any]) -> Verification:
    """Read a verification from the plain values of its record."""
    plain, timeline = values["plain"], values["timeline"]
    precision = values.get("precision")
    return Verification(
        **{
            **values,
            "measurement": _measurement(values["measurement"]),
            "plain": None if plain is None else _measurement(plain),
            "precision": None if precision is None else PrecisionError(**precision),
            "timeline": None if timeline is None else timeline_from_values(timeline),
        }
    )


def _estimate_values(plan: Plan) -> dict[str, Any]:
    import torch

    return {
        "version": ESTIMATE_VERSION,
        "remora": remora.__version__,
        "torch": torch.__version__,
        "graph_hash": plan.schedule.graph_hash,
        "hardware": plan.problem.hardware.name,
        "optimizer": plan.problem.optimizer.name,
        "budget_bytes": plan.budget_bytes,
        "estimate": dataclasses.asdict(plan.estimate),
        "lower_bound_s": plan.lower_bound_s,
        "agent": plan.agent,
        "search_s": plan.search_s,
        "cost_reason": plan.cost_reason,
        "candidates": [dataclasses.asdict(row) for row in plan.candidates],
        "units": plan.units,
        "inference": inference_values(plan.problem.inference),
        "model": saved_model(plan.source),
    }


def _saved_estimate(values: Mapping[str, Any]) -> SavedEstimate:
    estimate = dict(values["estimate"])
    estimate["peak_by_rank_bytes"] = tuple(estimate["peak_by_rank_bytes"])
    units, model = values["units"], values["model"]
    return SavedEstimate(
        graph_hash=str(values["graph_hash"]),
        hardware=str(values["hardware"]),
        budget_bytes=int(values["budget_bytes"]),
        optimizer=str(values["optimizer"]),
        estimate=Estimate(**estimate),
        lower_bound_s=float(values["lower_bound_s"]),
        agent=str(values["agent"]),
        search_s=float(values["search_s"]),
        candidates=tuple(CandidateRow(**row) for row in values["candidates"]),
        units=None if units is None else tuple(units),
        model=None if model is None else SavedModel(**model),
        # Files of earlier versions do not have it.
        cost_reason=str(values.get("cost_reason", "")),
        inference=inference_from_values(values.get("inference")),
    )


def _source(model: SavedModel | None) -> ModelSource | None:
    if model is None:
        return None
    try:
        return model.source()
    except InvalidInputError:
        # A model of the user's own is named on the command line, never by a file.
        return None


def _measurement(values: Mapping[str, Any]) -> Measurement:
    lists = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
    return Measurement(**{**values, **lists})


def _parsed(path: Path, parse: Callable[[], _T]) -> _T:
    try:
        return parse()
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(f"{path} lacks or garbles a field: {error}") from error
