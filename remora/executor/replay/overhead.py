"""What a real step costs the host per operator beyond the bare operators that a replay runs."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from remora.executor.memory.install import apply
from remora.executor.replay.compression_rate import compression_rates
from remora.executor.replay.units import measure_units
from remora.graph.model_graph import ModelGraph, Unit
from remora.graph.trace import trace
from remora.hardware.measurements import Overheads
from remora.schedule.menu import keep_option, recompute_option
from remora.schedule.recompute import partial_closure
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption

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

    On CUDA the host runs ahead of the device, so nothing is added there; how fast saved tensors
    are compressed is measured everywhere.
    """
    compress_bytes_per_s, restore_bytes_per_s = compression_rates(device)
    if device.type == "cuda":
        return Overheads(
            forward_op_s=0.0,
            backward_op_s=0.0,
            compress_bytes_per_s=compress_bytes_per_s,
            restore_bytes_per_s=restore_bytes_per_s,
        )
    with torch.random.fork_rng([]):
        model = nn.Sequential(*(_Block() for _ in range(_BLOCKS)))
        x = torch.randn(2, 4, _WIDTH)  # [batch, rows, width]
    graph = trace(model, (x,))
    real = _real_times(model, x)
    replayed_s, backward_s = _replayed_times(graph, device)
    forward_op_s = (real.forward_s - replayed_s) / graph.num_forward_ops
    saved_tensor_s = _saved_tensor_s(model, x, graph, real)
    op_s = real.forward_s / graph.num_forward_ops
    return Overheads(
        forward_op_s=forward_op_s,
        backward_op_s=(real.backward_s - backward_s) / (len(graph.ops) - graph.num_forward_ops),
        saved_tensor_s=saved_tensor_s,
        recorded_op_s=_recorded_op_s(model, x, graph, real, saved_tensor_s, op_s),
        compress_bytes_per_s=compress_bytes_per_s,
        restore_bytes_per_s=restore_bytes_per_s,
    )


@dataclass(frozen=True, slots=True)
class _StepTimes:
    """Median seconds of forward with loss, and of backward."""

    forward_s: float
    backward_s: float

    @property
    def step_s(self) -> float:
        """Both."""
        return self.forward_s + self.backward_s


def _saved_tensor_s(
    model: nn.Module, x: torch.Tensor, graph: ModelGraph, real: _StepTimes
) -> float:
    """Host time per saved tensor, from a step that recomputes every block."""
    again = _under(model, x, graph, recompute_option)
    added_s = again.step_s - (real.step_s + real.forward_s)
    return max(0.0, added_s / sum(len(unit.saved) for unit in _blocks(graph)))


def _recorded_op_s(
    model: nn.Module,
    x: torch.Tensor,
    graph: ModelGraph,
    real: _StepTimes,
    saved_tensor_s: float,
    op_s: float,
) -> float:
    """Host time per forward operator that is written down, from a step that recomputes a part.

    What runs again is taken to take as long per operator as the forward, and every saved tensor
    that is recomputed as long as in a step that recomputes everything.
    """
    option = functools.partial(_partial_option, graph)
    mixed = _under(model, x, graph, option)
    num_again = sum(
        len(partial_closure(graph, unit, option(unit)).steps) for unit in _blocks(graph)
    )
    num_moved = sum(
        action is Action.RECOMPUTE for unit in _blocks(graph) for _, action in option(unit).actions
    )
    num_recorded = sum(unit.forward[1] - unit.forward[0] for unit in _blocks(graph))
    added_s = mixed.step_s - real.step_s - num_again * op_s - num_moved * saved_tensor_s
    return max(0.0, added_s / num_recorded)


def _partial_option(graph: ModelGraph, unit: Unit) -> UnitOption:
    """Recompute what is no result of a matrix product, as far as the unit made it."""
    first = unit.forward[0]
    actions = []
    for saved in unit.saved:
        created = graph.storages[graph.storage_of(saved)].created
        again = created >= first and "mm" not in graph.ops[created].name
        actions.append((saved.name, Action.RECOMPUTE if again else Action.KEEP))
    return UnitOption(tuple(actions))


def _blocks(graph: ModelGraph) -> list[Unit]:
    return [unit for unit in graph.units if not unit.fixed_reason]


def _under(
    model: nn.Module,
    x: torch.Tensor,
    graph: ModelGraph,
    option: Callable[[Unit], UnitOption],
) -> _StepTimes:
    """Times of a step in which every block has the option."""
    options = tuple(
        keep_option(unit) if unit.fixed_reason else option(unit) for unit in graph.units
    )
    with apply(model, graph, Schedule(graph.content_hash, MemoryPlan(options))):
        return _real_times(model, x)


def _real_times(model: nn.Module, x: torch.Tensor) -> _StepTimes:
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
    return _StepTimes(statistics.median(forward), statistics.median(backward))


def _replayed_times(graph: ModelGraph, device: torch.device) -> tuple[float, float]:
    times, _ = measure_units(graph, {unit.kind for unit in graph.units}, device, _REPETITIONS)
    forward_s = sum(times[unit.kind].forward_s for unit in graph.units)
    backward_s = sum(times[unit.kind].backward_s for unit in graph.units)
    return forward_s, backward_s
