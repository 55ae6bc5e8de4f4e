"""What a real step costs the host per operator beyond the bare operators that a replay runs."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from remora.executor.memory.install import apply
from remora.executor.replay.units import measure_units
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.measurements import Overheads
from remora.schedule.menu import keep_option, recompute_option
from remora.schedule.schedule import MemoryPlan, Schedule

__all__ = ["measure_overheads"]

_WIDTH = 8
_BLOCKS = 12
_REPETITIONS = 20


class _Block(nn.Module):
    """A feed-forward block so small that its time is all overhead."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.up = nn.Linear(_WIDTH, _WIDTH)
        self.down = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.gelu(self.up(self.norm(x)))  # [batch, rows, width]
        merged = self.down(hidden).transpose(1, 2).transpose(1, 2)  # [batch, rows, width]
        return torch.add(x, merged)


def measure_overheads(device: torch.device) -> Overheads:
    """Compare a stack of tiny blocks, run as a model is run, with the replay of its operators.

    On CUDA the host runs ahead of the device, so nothing is added there.
    """
    if device.type == "cuda":
        return Overheads(forward_op_s=0.0, backward_op_s=0.0)
    with torch.random.fork_rng([]):
        model = nn.Sequential(*(_Block() for _ in range(_BLOCKS)))
        x = torch.randn(2, 4, _WIDTH)  # [batch, rows, width]
    graph = trace(model, (x,))
    real_forward_s, real_backward_s = _real_times(model, x)
    again_s, num_again = _recomputed_times(model, x, graph)
    added_s = again_s - (2 * real_forward_s + real_backward_s)
    forward_s, backward_s = _replayed_times(graph, device)
    num_backward_ops = len(graph.ops) - graph.num_forward_ops
    return Overheads(
        forward_op_s=(real_forward_s - forward_s) / graph.num_forward_ops,
        backward_op_s=(real_backward_s - backward_s) / num_backward_ops,
        saved_tensor_s=max(0.0, added_s / num_again),
    )


def _recomputed_times(model: nn.Module, x: torch.Tensor, graph: ModelGraph) -> tuple[float, int]:
    """Median seconds of a step that recomputes every block, and its number of saved tensors."""
    blocks = [unit for unit in graph.units if not unit.fixed_reason]
    options = tuple(
        keep_option(unit) if unit.fixed_reason else recompute_option(unit) for unit in graph.units
    )
    with apply(model, graph, Schedule(graph.content_hash, MemoryPlan(options))):
        forward_s, backward_s = _real_times(model, x)
    return forward_s + backward_s, sum(len(unit.saved) for unit in blocks)


def _real_times(model: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Median seconds of forward with loss, and of backward."""
    forward, backward = [], []
    with torch.enable_grad():
        for _ in range(_REPETITIONS):
            start = time.perf_counter()
            loss = model(x).square().sum()
            middle = time.perf_counter()
            loss.backward()
            end = time.perf_counter()
            del loss
            model.zero_grad(set_to_none=True)
            forward.append(middle - start)
            backward.append(end - middle)
    return statistics.median(forward), statistics.median(backward)


def _replayed_times(graph: ModelGraph, device: torch.device) -> tuple[float, float]:
    times, _ = measure_units(graph, {unit.kind for unit in graph.units}, device, _REPETITIONS)
    forward_s = sum(times[unit.kind].forward_s for unit in graph.units)
    backward_s = sum(times[unit.kind].backward_s for unit in graph.units)
    return forward_s, backward_s
