"""A label: a drawn problem, the best schedule known of every shape, and greedy's answer."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remora.agents.heuristics.shapes import Shape
from remora.agents.learned.labels.graph_store import read_graph, write_graph
from remora.agents.learned.labels.search import Found, ShapePlan
from remora.envs.building import build_problem
from remora.envs.drawing import ProblemSpec
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.hardware.load import hardware_from_mapping
from remora.report.files import write_bytes
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json

__all__ = ["Label", "label_path", "read_label", "read_labels", "write_label"]

_VERSION = 1
_FOLDER = "labels"


@dataclass(frozen=True)
class Label:
    """What a long search found for one problem.

    Attributes:
        spec: the drawn problem.
        folder: where graphs are kept.
        graphs: content hashes of the traced graphs, by number of micro-batches.
        hardware: as new.
        budget_bytes: of the problem.
        greedy: what the greedy search with its clean-up answers.
        greedy_s: its step time.
        plans: one for every shape that the problem allows, the fastest first; those for which no
            schedule that fits was found come last.
        search_s: seconds of the processor that greedy and search took.
        evaluations: schedules that were simulated.
    """

    spec: ProblemSpec
    folder: Path
    graphs: Mapping[int, str]
    hardware: Hardware
    budget_bytes: int
    greedy: Schedule
    greedy_s: float
    plans: tuple[ShapePlan, ...]
    search_s: float
    evaluations: int

    @property
    def name(self) -> str:
        """Name of the problem."""
        return self.spec.name

    @property
    def best(self) -> Schedule:
        """The fastest schedule found."""
        best = self.plans[0].schedule
        assert best is not None  # a label is only made where something fits
        return best

    @property
    def best_s(self) -> float:
        """Its step time."""
        best_s = self.plans[0].step_time_s
        assert best_s is not None
        return best_s

    @property
    def problem(self) -> Problem:
        """The problem, built anew each time: whoever needs it for long keeps it.

        Raises:
            FileFormatError: a graph is missing or broken, or is not the one that was planned.
        """
        graphs = {count: read_graph(self.folder, name) for count, name in self.graphs.items()}
        try:
            problem = build_problem(self.spec, graphs, self.hardware)
        except InvalidInputError as error:
            raise FileFormatError(f"label {self.name!r} cannot be built again: {error}") from error
        if problem.graph.content_hash != self.greedy.graph_hash:
            raise FileFormatError(
                f"label {self.name!r} has plans for graph {self.greedy.graph_hash!r}; allowed: "
                f"those of the graph that is built now, {problem.graph.content_hash!r}"
            )
        if problem.budget_bytes == self.budget_bytes:
            return problem
        return dataclasses.replace(problem, budget_bytes=self.budget_bytes)

    @property
    def greedy_gap(self) -> float:
        """Logarithm of how much slower greedy is than the best one."""
        return math.log(self.greedy_s / self.best_s)

    def regret(self, plan: ShapePlan) -> float:
        """Logarithm of how much slower a shape is than the best one.

        Returns:
            0 for the best; for a shape without a schedule infinity.
        """
        if plan.step_time_s is None:
            return math.inf
        return math.log(plan.step_time_s / self.best_s)


def write_label(
    folder: Path,
    spec: ProblemSpec,
    graphs: Mapping[int, ModelGraph],
    hardware: Hardware,
    budget_bytes: int,
    found: Found,
    search_s: float,
) -> None:
    """Write a label and its graphs, whole or not at all.

    Args:
        folder: where labels are kept.
        spec: the drawn problem.
        graphs: as traced, by number of micro-batches.
        hardware: as new.
        budget_bytes: of the problem.
        found: by the long search.
        search_s: seconds that it took.

    Raises:
        UsageError: a file cannot be written.
    """
    values = {
        "version": _VERSION,
        "spec": {**_fields(spec), "values": dict(spec.values)},
        "graphs": {str(count): write_graph(folder, graph) for count, graph in graphs.items()},
        "hardware": _hardware_values(hardware),
        "budget_bytes": budget_bytes,
        "greedy": {"schedule": _schedule_values(found.greedy), "step_time_s": found.greedy_s},
        "plans": [_plan_values(plan) for plan in found.plans],
        "search_s": search_s,
        "evaluations": found.evaluations,
    }
    text = json.dumps(values, separators=(",", ":"))
    write_bytes(label_path(folder, spec.name), gzip.compress(text.encode(), mtime=0))


def read_labels(folder: Path | str) -> list[Label]:
    """Read all labels of a folder, in the order of their names.

    Raises:
        FileFormatError: there is none, or one is broken.
    """
    paths = sorted((Path(folder) / _FOLDER).glob("*.json.gz"))
    if not paths:
        raise FileFormatError(f"{folder} holds no labels; allowed: a folder that labels are in")
    return [read_label(path) for path in paths]


def read_label(path: Path) -> Label:
    """Read one label.

    Raises:
        FileFormatError: it is cut short, of another version or garbled.
    """
    try:
        values = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise FileFormatError(f"{path} is no complete label: {error}") from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != _VERSION:
        raise FileFormatError(f"version of {path} is {version!r}; allowed: {_VERSION}")
    try:
        return _label(path.parent.parent, values)
    except (KeyError, TypeError, ValueError, InvalidInputError) as error:
        raise FileFormatError(f"{path} lacks or garbles a field: {error}") from error


def label_path(folder: Path, name: str) -> Path:
    """Where the label of a problem is."""
    return folder / _FOLDER / f"{name}.json.gz"


def _label(folder: Path, values: Mapping[str, Any]) -> Label:
    greedy = values["greedy"]
    plans = tuple(map(_plan, values["plans"]))
    if not plans or plans[0].schedule is None:
        raise ValueError("plans holds none that fits")
    return Label(
        spec=ProblemSpec(**values["spec"]),
        folder=folder,
        graphs={int(count): str(name) for count, name in values["graphs"].items()},
        hardware=hardware_from_mapping(values["hardware"]),
        budget_bytes=int(values["budget_bytes"]),
        greedy=_schedule(greedy["schedule"]),
        greedy_s=float(greedy["step_time_s"]),
        plans=plans,
        search_s=float(values["search_s"]),
        evaluations=int(values["evaluations"]),
    )


def _plan(values: Mapping[str, Any]) -> ShapePlan:
    kind, *numbers = values["shape"]
    schedule, step_time_s = values["schedule"], values["step_time_s"]
    return ShapePlan(
        Shape(PipelineKind(kind), *map(int, numbers)),
        float(values["ideal_s"]),
        None if step_time_s is None else float(step_time_s),
        None if schedule is None else _schedule(schedule),
    )


def _plan_values(plan: ShapePlan) -> dict[str, Any]:
    return {
        "shape": list(dataclasses.astuple(plan.shape)),
        "ideal_s": plan.ideal_s,
        "step_time_s": plan.step_time_s,
        "schedule": None if plan.schedule is None else _schedule_values(plan.schedule),
    }


def _schedule_values(schedule: Schedule) -> Any:
    return json.loads(schedule_to_json(schedule))


def _schedule(values: Any) -> Schedule:
    return schedule_from_json(json.dumps(values))


def _fields(spec: ProblemSpec) -> dict[str, Any]:
    return {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}


def _hardware_values(hardware: Hardware) -> dict[str, Any]:
    """What :func:`hardware_from_mapping` reads; the state is that of the drawn problem."""
    plain = dataclasses.replace(hardware, state=None, flops_per_s=dict(hardware.flops_per_s))
    values = dataclasses.asdict(plain)
    del values["state"]
    return values
