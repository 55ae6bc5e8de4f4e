"""The measurements as Parquet tables that grow from run to run; columns carry their units.

`graphs` has one row per traced step, `measurements` one per traced step whose operators were
measured, `operators` one per operator of every measured kind of unit, `steps` one per measured
training step. The first column of each names what its rows belong to.
`remora.cost_models.dataset.campaign` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from remora.errors import FileFormatError
from remora.report.files import write_bytes

__all__ = ["TABLES", "Dataset"]

_TEXT, _WHOLE, _REAL, _REALS = "text", "whole", "real", "reals"

TABLES: Mapping[str, Mapping[str, str]] = {
    "graphs": {
        "graph_hash": _TEXT,
        "model": _TEXT,
        "target": _TEXT,
        "values_json": _TEXT,  # arguments of the target
        "batch": _WHOLE,
        "torch": _TEXT,
        "graph_json": _TEXT,  # of remora.graph.serialize
    },
    "measurements": {
        "graph_hash": _TEXT,
        "hardware_json": _TEXT,  # rates of the device, as in conf/hardware
        "threads": _WHOLE,  # of PyTorch on the host
        "torch": _TEXT,
        "python": _TEXT,
        "machine": _TEXT,  # processor or accelerator
        "overheads_json": _TEXT,  # host time around operators; remora.hardware.measurements
        "optimizer": _TEXT,
        "optimizer_s": _REAL,  # one step over all parameters
        "notes_json": _TEXT,  # what could not be measured
    },
    "operators": {
        "graph_hash": _TEXT,
        "unit_kind": _TEXT,
        "unit": _WHOLE,  # the first of its kind
        "phase": _TEXT,
        "position": _WHOLE,  # in the phase of the unit
        "op": _TEXT,
        "signature": _TEXT,  # equal for equal work on equal layouts
        "dtype": _TEXT,
        "flops": _REAL,
        "bytes_read": _WHOLE,
        "bytes_written": _WHOLE,
        "time_s": _REAL,  # median of the repetitions; missing where it could not run
        "repetitions": _WHOLE,
        "roofline_s": _REAL,
        "workspace_bytes": _WHOLE,
        "device": _TEXT,
        "torch": _TEXT,
    },
    "steps": {
        "graph_hash": _TEXT,
        "part": _TEXT,
        "section": _TEXT,
        "label": _TEXT,
        "model": _TEXT,
        "batch": _WHOLE,
        "optimizer": _TEXT,
        "schedule_json": _TEXT,  # of remora.schedule.serialize
        "cost_model": _TEXT,
        "predicted_step_time_s": _REAL,
        "predicted_peak_bytes": _WHOLE,
        "status": _TEXT,  # ok, out_of_memory, crashed; died: interrupted
        "step_time_s": _REAL,  # median
        "step_times_s": _REALS,  # every repetition
        "peak_allocated_bytes": _WHOLE,
        "peak_reserved_bytes": _WHOLE,
        "resident_bytes": _WHOLE,  # parameters, buffers, batch, optimizer state
        "library_bytes": _WHOLE,  # allocated between two steps beyond the resident bytes
        "host_bytes": _WHOLE,
        "device": _TEXT,
        "torch": _TEXT,
    },
}
"""Columns of every table by kind of value."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "graphs": ("graph_hash",),
    "measurements": ("graph_hash",),
    "operators": ("graph_hash", "unit_kind", "phase", "position"),
    "steps": ("part", "section", "label", "batch"),
}

Row = dict[str, Any]


class Dataset:
    """The tables of one folder, as rows by what they are about; a later row replaces an earlier.

    Raises:
        FileFormatError: a file of the folder is no table of ours.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows = {name: self._keyed(name, self._read(name)) for name in TABLES}
        self._changed: set[str] = set()

    def add(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows into a table; missing columns stay empty."""
        complete = [{column: row.get(column) for column in TABLES[name]} for row in rows]
        self._rows[name].update(self._keyed(name, complete))
        self._changed.add(name)

    def count(self, name: str) -> int:
        """Number of rows of a table."""
        return len(self._rows[name])

    def save(self) -> None:
        """Write the tables that changed, each whole or not at all."""
        import pyarrow
        import pyarrow.parquet

        for name in sorted(self._changed):
            table = pyarrow.Table.from_pylist(list(self._rows[name].values()), _schema(name))
            sink = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(table, sink, compression="zstd")
            write_bytes(self._path(name), sink.getvalue().to_pybytes())
            self._changed.discard(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.parquet"

    def _read(self, name: str) -> list[Row]:
        import pyarrow
        import pyarrow.parquet

        path = self._path(name)
        if not path.exists():
            return []
        try:
            table = pyarrow.parquet.read_table(path, schema=_schema(name))
        except (pyarrow.ArrowException, OSError) as error:
            raise FileFormatError(
                f"the table {path} cannot be read ({error}); give another out= or move it away"
            ) from error
        rows: list[Row] = table.to_pylist()
        return rows

    def _keyed(self, name: str, rows: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
        return {tuple(row[column] for column in _KEYS[name]): row for row in rows}


def _schema(name: str) -> Any:
    import pyarrow

    kinds = {
        _TEXT: pyarrow.string(),
        _WHOLE: pyarrow.int64(),
        _REAL: pyarrow.float64(),
        _REALS: pyarrow.list_(pyarrow.float64()),
    }
    return pyarrow.schema([(column, kinds[kind]) for column, kind in TABLES[name].items()])
