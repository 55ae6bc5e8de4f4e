"""Where the forwards and backwards of units begin in a step of a real model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node
from torch.utils import _pytree as pytree

from remora.executor.memory.forward import Function
from remora.executor.memory.nesting import output_leaves
from remora.executor.timeline.event_log import EventLog
from remora.graph.model_graph import ModelGraph, ModuleCall
from remora.schedule.program import InstructionKind

__all__ = ["UnitMarks"]


class UnitMarks:
    """Stands around the forwards of the modules that begin units.

    Nothing is computed or held: where a unit begins, the autograd node that ends the unit before
    it is told to say when its backward begins.

    Args:
        graph: of the model.
        last_inner_unit: the last unit that runs inside of the model; others are the loss.
        log: told of every beginning.
    """

    def __init__(self, graph: ModelGraph, last_inner_unit: int, log: EventLog) -> None:
        self._log = log
        self._last_inner = last_inner_unit
        self._last = len(graph.units) - 1
        self._begins = {unit.marker: unit.index for unit in graph.units if unit.marker is not None}
        self._calls: Counter[str] = Counter()
        self._running = False
        self._reached = self._last + 1

    @property
    def paths(self) -> set[str]:
        """Modules whose forward :meth:`run` has to stand for."""
        return {"", *(call.path for call in self._begins)}

    def run(
        self, path: str, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the forward of a module."""
        if not path and not self._running:
            return self._run_model(forward, args, kwargs)
        call = ModuleCall(path, self._calls[path])
        self._calls[path] += 1
        unit = self._begins.get(call)
        # Modules run outside of the model's forward, too, where units are made again.
        if self._running and unit is not None:
            self._log.begin(InstructionKind.FORWARD, unit)
            self._watch(pytree.tree_leaves((args, kwargs)), unit - 1)
        return forward(*args, **kwargs)

    def begin_backward(self) -> None:
        """Note that the loss is known and its backward begins."""
        self._reach(self._last)

    def _run_model(self, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._calls.clear()
        self._reached = self._last + 1
        self._log.begin(InstructionKind.FORWARD, 0)
        self._running = True
        try:
            output = forward(*args, **kwargs)
        finally:
            self._running = False
        self._watch(output_leaves(output), self._last_inner)
        if self._last_inner < self._last:
            self._log.begin(InstructionKind.FORWARD, self._last)
        return output

    def _watch(self, leaves: Iterable[object], unit: int) -> None:
        """Let the latest-made of some tensors tell when the backward of ``unit`` begins."""
        tensors = (leaf for leaf in leaves if isinstance(leaf, Tensor))
        nodes = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
        if nodes:
            max(nodes, key=_sequence).register_prehook(lambda *_: self._reach(unit))

    def _reach(self, unit: int) -> None:
        while self._reached > unit:
            self._reached -= 1
            self._log.begin(InstructionKind.BACKWARD, self._reached)


def _sequence(node: Node) -> int:
    return node._sequence_nr()
