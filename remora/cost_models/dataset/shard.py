"""One shard: an immutable Parquet file that holds one profiled run, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

from remora.cost_models.dataset.records import ProfiledRun, Setting, Subject
from remora.cost_models.dataset.rows import run_from_rows, run_to_rows
from remora.cost_models.dataset.schema import COLUMNS, arrow_schema
from remora.errors import FileFormatError
from remora.hardware.cache import cache_key
from remora.report.files import write_bytes

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
    pyarrow.parquet.write_table(table, sink, compression="zstd", compression_level=19)
    path = folder / shard_name(run.subject, run.setting, run.round)
    write_bytes(path, sink.getvalue().to_pybytes())
    return path


def read_shard(path: Path) -> ProfiledRun:
    """Read a run and check it.

    Raises:
        FileFormatError: the file is missing, cut short, empty, no Parquet, has other columns, or
            holds figures that cannot have been measured.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise FileFormatError(f"there is no shard {path}") from error
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"{path} is cut short or no Parquet: {reason}") from error
    expected = arrow_schema()
    if not table.schema.equals(expected, check_metadata=False):
        wrong = sorted(set(table.schema) ^ set(expected), key=lambda field: str(field.name))
        names = ", ".join(dict.fromkeys(str(field.name) for field in wrong)) or "their order"
        raise FileFormatError(f"{path} has other columns than a shard of profiled runs: {names}")
    return run_from_rows(table.to_pylist(), str(path))
