"""One shard: an immutable Parquet file that holds one profiled run, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from remora.cost_models.dataset.records import ProfiledRun, Setting, Subject
from remora.cost_models.dataset.rows import run_from_rows, run_to_rows
from remora.cost_models.dataset.schema import COLUMNS, arrow_schema
from remora.errors import FileFormatError
from remora.graph.model_graph import ModelGraph
from remora.graph.serialize import graph_from_json
from remora.hardware.cache import cache_key
from remora.report.files import write_bytes

if TYPE_CHECKING:
    import pyarrow

__all__ = ["SUFFIX", "read_shard", "shard_name", "write_shard"]

SUFFIX = ".parquet"


def shard_name(subject: Subject, setting: Setting, round_: int) -> str:
    """File name of a run; the same run has the same name in every process.

    Two writers of one run replace each other's file by one that says the same.
    """
    model = re.sub(r"[^A-Za-z0-9_]+", "_", subject.model)
    place = cache_key(setting.hardware.name, setting.threads, setting.torch)[:8]
    return f"{model}-{subject.key}-{place}-r{round_}{SUFFIX}"


def write_shard(folder: Path, run: ProfiledRun) -> Path:
    """Write a run under a temporary name and rename it.

    Args:
        folder: of the dataset; made if missing.
        run: what was measured.

    Returns:
        The file.

    Raises:
        UsageError: the file cannot be written, as where the disk is full; nothing is left behind.
    """
    import pyarrow
    import pyarrow.parquet

    rows = [{column: row.get(column) for column in COLUMNS} for row in run_to_rows(run)]
    table = pyarrow.Table.from_pylist(rows, arrow_schema())
    sink = pyarrow.BufferOutputStream()
    # A flipped bit must not become a figure.
    pyarrow.parquet.write_table(
        table, sink, compression="zstd", compression_level=19, write_page_checksum=True
    )
    path = folder / shard_name(run.subject, run.setting, run.round)
    write_bytes(path, sink.getvalue().to_pybytes())
    return path


def read_shard(path: Path, decode: Callable[[str], ModelGraph] = graph_from_json) -> ProfiledRun:
    """Read a run and check it.

    Args:
        path: the file.
        decode: makes the graph from its JSON.

    Raises:
        FileFormatError: the file is missing, cut short, empty, no Parquet, has other columns, or
            holds figures that cannot have been measured.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True).read()
        expected = arrow_schema()
        if not table.schema.equals(expected, check_metadata=False):
            raise FileFormatError(_other_columns(path, table.schema, expected))
        rows = table.to_pylist()
    except FileNotFoundError as error:
        raise FileFormatError(f"there is no shard {path}") from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"{path} is cut short or no Parquet: {reason}") from error
    return run_from_rows(rows, str(path), decode)


def _other_columns(path: Path, found: pyarrow.Schema, expected: pyarrow.Schema) -> str:
    here, there = ({field.name: field.type for field in schema} for schema in (found, expected))
    wrong = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    names = ", ".join(wrong) or "their order"
    return f"{path} has other columns than a shard of profiled runs: {names}"
