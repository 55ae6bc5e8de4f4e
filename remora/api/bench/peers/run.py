"""The whole comparison: what is asked for, what was found, its tables and its files."""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from remora.api.bench.peers.measuring import PeerRow, Point, measured_peers, problem_of
from remora.api.bench.peers.problems import BudgetRow, SolverRow, our_curve, solver_rows
from remora.api.bench.quality_files import section_text
from remora.api.bench.tables import Section
from remora.api.configs import config_names, load_config
from remora.errors import InvalidInputError, UnknownNameError
from remora.hardware.local import device_name
from remora.report.files import write_json, write_text
from remora.report.wording import bytes_text, duration_text, overhead_text
from remora.zoo import build_target

__all__ = [
    "PeersRequest",
    "PeersResult",
    "peers_notes",
    "peers_sections",
    "run_peers",
    "write_peers",
]

_VERSION = 1
_RANKS = 4
_CURVE = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)
_POINT = ("peak", "step", "over plain", "search")
_SIMULATED = ("over keeping all", "peak", "search")
_MEMORY_BUDGET = "activation_memory_budget"


@dataclass(frozen=True)
class PeersRequest:
    """What to compare.

    Attributes:
        models: names of ``conf/model``.
        ranges: budgets of the problems that are solved.
        time_limit_s: seconds of each of our searches.
        repetitions: timed steps of every run.
        cost_model: of our plans.
        out: folder of the files.
        command: kept in them.
    """

    models: tuple[str, ...]
    ranges: tuple[float, ...]
    time_limit_s: float
    repetitions: int
    cost_model: str
    out: Path
    command: str = ""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UsageError: names the field, its value and what is allowed.
        """
        names = config_names("model")
        for model in self.models:
            if model not in names:
                raise UnknownNameError("model", model, names)
        if not self.models:
            raise InvalidInputError("models is empty; allowed: names of conf/model")
        for share in self.ranges:
            if not 0 <= share <= 1:
                raise InvalidInputError(f"ranges has {share}; allowed: from 0 to 1")
        for field in ("time_limit_s", "repetitions"):
            if not getattr(self, field) > 0:
                raise InvalidInputError(f"{field} is {getattr(self, field)}; allowed: above 0")


@dataclass(frozen=True)
class PeersResult:
    """What was found.

    Attributes:
        peers: measured runs.
        solvers: plans on the same cost tables.
        budgets: our plans for falling budgets.
    """

    peers: tuple[PeerRow, ...]
    solvers: tuple[SolverRow, ...]
    budgets: tuple[BudgetRow, ...]


def run_peers(
    request: PeersRequest, stage: Callable[[str], None] = lambda text: None
) -> PeersResult:
    """Measure peers and solve problems, one model after the other.

    Args:
        request: what to compare.
        stage: told what begins.
    """
    peers: list[PeerRow] = []
    solvers: list[SolverRow] = []
    budgets: list[BudgetRow] = []
    limit_s = request.time_limit_s
    for model in request.models:
        values = load_config("model", model)
        torch.manual_seed(0)
        example = build_target(values["target"], values["values"])
        stage(f"{model}: costs")
        problem = problem_of(example, model, request.cost_model)
        peers += measured_peers(model, example, problem, request.repetitions, limit_s, stage)
        stage(f"{model}: budgets")
        budgets += our_curve(model, problem, _CURVE, limit_s)
        for ranks in (1, _RANKS):
            stage(f"{model}: problems of {ranks} ranks")
            asked = problem if ranks == 1 else problem_of(example, model, "roofline", ranks)
            solvers += solver_rows(model, asked, request.ranges, limit_s)
    return PeersResult(tuple(peers), tuple(solvers), tuple(budgets))


def peers_sections(result: PeersResult) -> list[Section]:
    """All tables."""
    return [_peer_section(result.peers), _solver_section(result.solvers), _curve_section(result)]


def peers_notes(result: PeersResult) -> list[str]:
    """Why there are no figures where there are none."""
    found = []
    for row in result.peers:
        where = f"{row.model}, {row.peer}" + ("" if row.setting is None else f" {row.setting:g}")
        found += [f"{where}: {row.theirs.note}"] if row.theirs.note else []
        ours_alone = row.ours.note and not row.theirs.note
        found += [f"{where}, Remora: {row.ours.note}"] if ours_alone else []
    return found


def write_peers(request: PeersRequest, result: PeersResult) -> list[Path]:
    """Write ``peers.json`` and ``peers.md``."""
    about = {
        "command": request.command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{device_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "remora")},
        },
    }
    values = {
        "version": _VERSION,
        **about,
        "peers": [asdict(row) for row in result.peers],
        "solvers": [asdict(row) for row in result.solvers],
        "budgets": [asdict(row) for row in result.budgets],
    }
    write_json(request.out / "peers.json", values)
    parts = [
        "# What PyTorch offers against memory, and Remora",
        f"`{request.command}`" if request.command else "",
        *(section_text(section) for section in peers_sections(result)),
        "\n".join(f"- {note}" for note in peers_notes(result)),
        f"{about['date']}; {about['machine']}; torch {torch.__version__}.",
    ]
    write_text(request.out / "peers.md", "\n\n".join(part for part in parts if part) + "\n")
    return [request.out / "peers.md", request.out / "peers.json"]


def _peer_section(rows: Sequence[PeerRow]) -> Section:
    return Section(
        "Measured at equal peaks",
        "Each peer at its setting, and Remora's plan for the peak that was measured of it. Times "
        "are the fastest steps (on a CPU: processor time), beside those of the same kernels with "
        "everything kept: compiled where the peer compiles (Remora's plans run eagerly). Search is "
        "what comes before the first step, compiling included.",
        ("model", "peer", "setting", *_POINT, *(f"Remora: {name}" for name in _POINT)),
        tuple(_peer_cells(row, _plain_s(rows, row.model)) for row in rows),
    )


def _plain_s(rows: Sequence[PeerRow], model: str) -> float | None:
    return next(row.theirs.step_time_s for row in rows if row.model == model)


def _peer_cells(row: PeerRow, plain_s: float | None) -> tuple[str, ...]:
    setting = "-" if row.setting is None else f"{row.setting:g}"
    theirs = _point_cells(row.theirs, row.base_step_s)
    return (row.model, row.peer, setting, *theirs, *_point_cells(row.ours, plain_s))


def _point_cells(point: Point, base_s: float | None) -> tuple[str, ...]:
    """Peak, step, over plain, search."""
    if point.step_time_s is None or point.peak_bytes is None:
        return ("-", "-", "-", "-")
    over = "-" if base_s is None else overhead_text(point.step_time_s, base_s)
    times = duration_text(point.step_time_s), over, duration_text(point.search_s)
    return (bytes_text(point.peak_bytes), *times)


def _solver_section(rows: Sequence[SolverRow]) -> Section:
    return Section(
        "The peers' problems on the same cost tables",
        "Programs of our own for the problems that rotor, Checkmate, POFO and Piper state; every "
        "plan is simulated by the same rules, and fits its budget there.",
        (*("model", "ranks", "range", "scheduler", "whose problem", "step"), *_SIMULATED),
        tuple(_solver_cells(row) for row in rows),
    )


def _solver_cells(row: SolverRow) -> tuple[str, ...]:
    head = (row.model, str(row.world_size), f"{row.budget_range:g}", row.solver, row.about or "-")
    if row.step_time_s is None or row.over_keep_all is None or row.peak_bytes is None:
        return (*head, "-", row.note, "-", duration_text(row.search_s))
    times = duration_text(row.step_time_s), f"{row.over_keep_all:+.1%}"
    return (*head, *times, bytes_text(row.peak_bytes), duration_text(row.search_s))


def _curve_section(result: PeersResult) -> Section:
    rows = []
    for model in dict.fromkeys(row.model for row in result.budgets):
        theirs = [
            row.theirs.peak_bytes
            for row in result.peers
            if row.model == model and row.peer == _MEMORY_BUDGET
        ]
        ours = [row.peak_bytes for row in result.budgets if row.model == model]
        for name, peaks in (("Remora", ours), (_MEMORY_BUDGET, theirs)):
            known = [peak for peak in peaks if peak is not None]
            rises = any(after > before for before, after in itertools.pairwise(known))
            texts = ["-" if peak is None else bytes_text(peak) for peak in peaks]
            rows.append((model, name, *texts, "rises" if rises else "never rises"))
    return Section(
        "Peaks while the budget falls",
        "Remora: predicted peaks of its plans at these ranges between the least and the keep-all "
        "peak. activation_memory_budget: measured peaks at these ratios.",
        ("model", "", *(f"{share:g}" for share in _CURVE), "as the budget falls"),
        tuple(rows),
    )
