"""Measurements on disk: what was measured on this device once is not measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from remora.graph.model_graph import GRADIENT, PARAMETER, ModelGraph
from remora.graph.signature import op_signature
from remora.hardware.cache import cache_folder, cache_key, read_json, warn_corrupt, write_json
from remora.hardware.hardware import Hardware
from remora.hardware.measurements import Measurements, Overheads, UnitTimes
from remora.hardware.others import cpu_moment, others_share

__all__ = ["Measurer", "collect_measurements"]

_FORMAT = 1
_DISTURBED = 0.1
"""Share of all cores in other hands from which measured times cannot be trusted."""

_Entry = TypeVar("_Entry")


class Measurer(Protocol):
    """Runs traced operators on a device; ``executor.replay`` has one."""

    def units(
        self, graph: ModelGraph, kinds: AbstractSet[str]
    ) -> tuple[dict[str, UnitTimes], tuple[str, ...]]:
        """Return times by unit kind, and notes on kinds that could not run."""
        ...

    def workspaces(
        self, graph: ModelGraph, signatures: AbstractSet[str]
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        """Return bytes by operator signature, and notes on operators that could not run."""
        ...

    def overheads_name(self, graph: ModelGraph) -> str:
        """Return what the overheads hold for: this model, or any."""
        ...

    def overheads(self, graph: ModelGraph, units: Mapping[str, UnitTimes]) -> Overheads:
        """Return the host's time around operators, given the times of the operators."""
        ...

    def optimizer_s(self, graph: ModelGraph, optimizer: str) -> float:
        """Return seconds of one optimizer step."""
        ...


def collect_measurements(
    graph: ModelGraph,
    hardware: Hardware,
    optimizer: str,
    measurer: Measurer,
    force: bool = False,
) -> Measurements:
    """Return everything measured for ``graph``, from the cache as far as it goes.

    Entries are kept by content (unit kind, operator signature, parameter shapes) in a folder
    for this hardware, PyTorch version and thread count. Shapes and dtypes are part of the
    content. A file that cannot be read is named in a warning and measured anew.

    Args:
        graph: the traced step.
        hardware: the device that ``measurer`` runs on.
        optimizer: name of the optimizer, a key of ``OPTIMIZERS``.
        measurer: measures what the cache does not have.
        force: measure everything again.
    """
    folder = _Folder(_folder_of(hardware), force)
    units, unit_notes = _units(graph, folder, measurer)
    workspaces, workspace_notes = _workspaces(graph, folder, measurer)
    overheads = _overheads(graph, units, folder, measurer)
    optimizer_s = _optimizer_s(graph, optimizer, folder, measurer)
    return Measurements(
        units=units,
        workspace_bytes=workspaces,
        overheads=overheads,
        optimizer_s=optimizer_s,
        notes=(*unit_notes, *workspace_notes),
        optimizer=optimizer,
        disturbance=folder.disturbance(),
    )


def _folder_of(hardware: Hardware) -> Path:
    import torch

    key = cache_key(hardware.name, torch.__version__, torch.get_num_threads())
    return cache_folder() / "measurements" / key


class _Folder:
    """Reads and writes entries of one folder; with ``force`` it finds nothing.

    Every entry says how busy other programs kept the machine while it was measured.
    """

    def __init__(self, path: Path, force: bool) -> None:
        self.path = path
        self.force = force
        self._most_share = 0.0

    def disturbance(self) -> str:
        """Say that some entries were measured on a busy machine; empty if none was."""
        if self._most_share < _DISTURBED:
            return ""
        return (
            f"operators of this model were measured while other programs kept up to "
            f"{self._most_share:.0%} of this machine's cores busy, so that times may come out "
            f"too long; to measure again when it is idle, remove {self.path}"
        )

    def read(self, name: str, decode: Callable[[Any], _Entry]) -> _Entry | None:
        """Return the decoded entry, or None if it is absent or unusable."""
        path = self.path / f"{name}.json"
        values = None if self.force else read_json(path)
        if values is None:
            return None
        try:
            if values["format"] != _FORMAT:
                raise ValueError(f"its format is {values['format']!r}, expected {_FORMAT}")
            found = decode(values["content"])
            self._most_share = max(self._most_share, float(values.get("others_share", 0.0)))
            return found
        except (KeyError, TypeError, ValueError) as error:
            warn_corrupt(path, f"{type(error).__name__}: {error}")
            return None

    def write(self, name: str, content: Any, share: float = 0.0) -> None:
        """Store an entry, with the share of the machine that others kept busy meanwhile."""
        self._most_share = max(self._most_share, share)
        values = {"format": _FORMAT, "others_share": round(share, 3), "content": content}
        write_json(self.path / f"{name}.json", values)


def _watched(measure: Callable[[], _Entry]) -> tuple[_Entry, float]:
    """Measure something; returns beside it the share of the machine that others kept busy."""
    begun = cpu_moment()
    found = measure()
    return found, others_share(begun)


def _units(
    graph: ModelGraph, folder: _Folder, measurer: Measurer
) -> tuple[dict[str, UnitTimes], tuple[str, ...]]:
    kinds = {unit.kind for unit in graph.units}
    cached = {kind: folder.read(f"unit-{kind}", _unit_times) for kind in sorted(kinds)}
    found = {
        kind: times
        for kind, times in cached.items()
        if times is not None and _fits(graph, kind, times)
    }
    missing = kinds - found.keys()
    if not missing:
        return found, ()
    (measured, notes), share = _watched(lambda: measurer.units(graph, missing))
    for kind, times in measured.items():
        folder.write(f"unit-{kind}", asdict(times), share)
    return {**found, **measured}, notes


def _fits(graph: ModelGraph, kind: str, times: UnitTimes) -> bool:
    """Whether the entry has one time per operator of the kind."""
    unit = next(unit for unit in graph.units if unit.kind == kind)
    lengths = (unit.forward[1] - unit.forward[0], unit.backward[1] - unit.backward[0])
    return lengths == (len(times.forward_op_s), len(times.backward_op_s))


def _unit_times(content: Any) -> UnitTimes:
    return UnitTimes(
        forward_op_s=_seconds(content["forward_op_s"]),
        backward_op_s=_seconds(content["backward_op_s"]),
        repetitions=int(content["repetitions"]),
        notes=tuple(str(note) for note in content["notes"]),
    )


def _seconds(values: Any) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)


def _workspaces(
    graph: ModelGraph, folder: _Folder, measurer: Measurer
) -> tuple[dict[str, int], tuple[str, ...]]:
    needed = {op_signature(graph, op) for op in graph.ops if not op.view}
    known = folder.read("workspaces", _sizes) or {}
    missing = needed - known.keys()
    measured, notes = measurer.workspaces(graph, missing) if missing else ({}, ())
    if measured:
        known = {**known, **measured}
        folder.write("workspaces", known)
    return {signature: known[signature] for signature in needed & known.keys()}, notes


def _sizes(content: Any) -> dict[str, int]:
    return {str(signature): int(num_bytes) for signature, num_bytes in content.items()}


def _overheads(
    graph: ModelGraph, units: Mapping[str, UnitTimes], folder: _Folder, measurer: Measurer
) -> Overheads:
    name = f"overheads-{measurer.overheads_name(graph)}"
    known = folder.read(name, _overheads_of)
    if known is not None:
        return known
    found, share = _watched(lambda: measurer.overheads(graph, units))
    folder.write(name, asdict(found), share)
    return found


def _overheads_of(content: Any) -> Overheads:
    """Decode; an entry of a version that measured less is refused, so that it is made anew."""
    missing = {field.name for field in fields(Overheads)} - content.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return Overheads(**{str(name): float(value) for name, value in content.items()})


def _optimizer_s(graph: ModelGraph, optimizer: str, folder: _Folder, measurer: Measurer) -> float:
    name = f"optimizer-{optimizer}-{_parameters_hash(graph)}"
    known = folder.read(name, float)
    if known is not None:
        return known
    found, share = _watched(lambda: measurer.optimizer_s(graph, optimizer))
    folder.write(name, found, share)
    return found


def _parameters_hash(graph: ModelGraph) -> str:
    """Hash of the sizes and dtypes of the parameters that get a gradient."""
    trained = {s.name for s in graph.storages if s.role == GRADIENT}
    sizes = sorted(
        {
            (view.storage, graph.storages[view.storage].num_bytes, view.dtype)
            for view in graph.tensors
            if graph.storages[view.storage].role == PARAMETER
            and graph.storages[view.storage].name in trained
        }
    )
    text = json.dumps(sorted((num_bytes, dtype) for _, num_bytes, dtype in sizes))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
