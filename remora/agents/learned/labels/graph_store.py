"""Traced graphs in a folder, each once, so that labels need neither the models nor their tracer."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from remora.errors import FileFormatError
from remora.graph.model_graph import ModelGraph
from remora.graph.serialize import graph_from_json, graph_to_json
from remora.report.files import write_bytes

__all__ = ["read_graph", "write_graph"]

_FOLDER = "graphs"


def write_graph(folder: Path, graph: ModelGraph) -> str:
    """Write a graph if it is not there, and return the hash that it is read by.

    Raises:
        UsageError: it cannot be written.
    """
    path = _path(folder, graph.content_hash)
    if not path.exists():
        write_bytes(path, gzip.compress(graph_to_json(graph).encode(), mtime=0))
    return graph.content_hash


@lru_cache(maxsize=48)
def read_graph(folder: Path, content_hash: str) -> ModelGraph:
    """Read a graph; the last few are remembered.

    Raises:
        FileFormatError: there is none of that hash, or it is broken.
    """
    path = _path(folder, content_hash)
    try:
        graph = graph_from_json(gzip.decompress(path.read_bytes()).decode())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}") from error
    if graph.content_hash != content_hash:
        raise FileFormatError(f"{path} holds graph {graph.content_hash!r}; allowed: its own name")
    return graph


def _path(folder: Path, content_hash: str) -> Path:
    return folder / _FOLDER / f"{content_hash}.json.gz"
