"""Tracing of a PyTorch module into a frozen graph of operators, storages and units."""

from remora.graph.model_graph import ModelGraph, Unit
from remora.graph.trace import trace

__all__ = ["ModelGraph", "Unit", "trace"]
