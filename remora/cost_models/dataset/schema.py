"""The columns of a shard of profiled runs; units of measure stand in the names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

__all__ = ["COLUMNS", "FORMAT", "GRAPH", "RECORDS", "STEP", "UNIT", "arrow_schema"]

FORMAT = 1

GRAPH, UNIT, STEP = RECORDS = ("graph", "unit", "step")
"""Kinds of rows. A shard is one run: one row for the graph, one per unit kind, one per schedule."""

_TEXT, _WHOLE, _REALS, _REPETITIONS = "text", "whole", "reals", "repetitions"

COLUMNS: Mapping[str, tuple[str, str]] = {
    "format": (_WHOLE, "version of these columns"),
    "record": (_TEXT, "graph, unit or step; columns of other kinds are empty"),
    "round": (_WHOLE, "pass of the collection; later ones show how far the machine repeats"),
    "family": (_TEXT, "group of architectures"),
    "model": (_TEXT, "architecture"),
    "target": (_TEXT, "package.module:function that builds it"),
    "values_json": (_TEXT, "its arguments"),
    "batch": (_WHOLE, "samples of a step"),
    "dtype": (_TEXT, "of the parameters"),
    "graph_hash": (_TEXT, "content hash of the traced step"),
    "hardware_json": (_TEXT, "rates of the device, as in conf/hardware"),
    "threads": (_WHOLE, "of PyTorch on the host"),
    "torch": (_TEXT, "version"),
    "python": (_TEXT, "version"),
    "machine": (_TEXT, "processor or accelerator"),
    "graph_json": (_TEXT, "graph: the traced step, of remora.graph.serialize"),
    "measurements_json": (_TEXT, "graph: workspaces, overheads, optimizer, as in hardware"),
    "unit_kind": (_TEXT, "unit: content hash of the unit"),
    "unit": (_WHOLE, "unit: the first one of this kind"),
    "forward_op_s": (_REPETITIONS, "unit: seconds [repetitions, operators]; NaN: not measurable"),
    "backward_op_s": (_REPETITIONS, "unit: seconds [repetitions, operators]"),
    "label": (_TEXT, "step: how the schedule was found"),
    "schedule_json": (_TEXT, "step: of remora.schedule.serialize"),
    "optimizer": (_TEXT, "step: name of the optimizer"),
    "status": (_TEXT, "step: ok, out_of_memory, crashed or timed_out"),
    "detail": (_TEXT, "step: message of a failed run"),
    "step_times_s": (_REALS, "step: every repetition"),
    "peak_memory_bytes": (_WHOLE, "step: peak, with what exists before the step"),
}
"""Columns in order: kind of value, and what it holds."""


def arrow_schema() -> pyarrow.Schema:
    """The columns as a schema of Parquet files; every column's text is kept with it."""
    import pyarrow

    kinds: Mapping[str, Any] = {
        _TEXT: pyarrow.string(),
        _WHOLE: pyarrow.int64(),
        _REALS: pyarrow.list_(pyarrow.float64()),
        _REPETITIONS: pyarrow.list_(pyarrow.list_(pyarrow.float32())),
    }
    return pyarrow.schema(
        [
            pyarrow.field(name, kinds[kind], metadata={"meaning": text})
            for name, (kind, text) in COLUMNS.items()
        ]
    )
