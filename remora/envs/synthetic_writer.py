"""Operators, tensors and storages of a step that is written down instead of traced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from remora.graph.kinds import dtype_bytes, unit_kind
from remora.graph.model_graph import (
    ACTIVATION,
    BACKWARD,
    FORWARD,
    INPUT,
    ModelGraph,
    Op,
    Storage,
    TensorView,
    Unit,
)

__all__ = ["SUM", "StepWriter", "Value"]

SUM = "aten.add.Tensor"
"""Name of the operator that adds gradients up."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor by its index, and its size per sample."""

    tensor: int
    positions: int
    width: int


@dataclass
class StepWriter:
    """Operators, tensors and storages written so far; every tensor views all of its storage."""

    samples: int
    dtype: str
    ops: list[Op] = field(default_factory=list)
    tensors: list[TensorView] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    gradients: dict[int, int] = field(default_factory=dict)

    def tensor(self, elements: int, role: str, name: str = "", created: int = -1) -> int:
        """Add a storage and its tensor."""
        num_bytes = elements * dtype_bytes(self.dtype)
        self.storages.append(Storage(num_bytes, role, name, created, 0))
        self.tensors.append(TensorView(len(self.storages) - 1, (elements,), (1,), 0, self.dtype))
        return len(self.tensors) - 1

    def elements(self, tensor: int) -> int:
        """Number of values of a tensor."""
        return self.tensors[tensor].shape[0]

    def is_input(self, tensor: int) -> bool:
        """Whether a tensor is the batch, which gets no gradient."""
        return self.storages[self.tensors[tensor].storage].role == INPUT

    def value(self, positions: int, width: int) -> Value:
        """A new activation of the operator that is written next."""
        elements = self.samples * positions * width
        return Value(self.tensor(elements, ACTIVATION, "", len(self.ops)), positions, width)

    def op(
        self, name: str, phase: str, unit: int, read: Sequence[int], made: int, flops: float
    ) -> None:
        """Add an operator."""
        size = dtype_bytes(self.dtype)
        self.ops.append(
            Op(
                name=name,
                phase=phase,
                module=f"blocks.{unit}" if phase == FORWARD else "",
                unit=unit,
                args=tuple(["tensor", tensor] for tensor in read),
                kwargs=(),
                inputs=tuple(read),
                outputs=(made,),
                flops=flops,
                bytes_read=size * sum(map(self.elements, read)),
                bytes_written=size * self.elements(made),
                random=False,
                view=False,
                mutates=(),
            )
        )

    def arrive(self, unit: int, value: Value, gradient: int) -> None:
        """Note a gradient; where one is there already, they are summed at once."""
        known = self.gradients.get(value.tensor)
        if known is not None:
            made = self.value(value.positions, value.width).tensor
            self.op(SUM, BACKWARD, unit, (known, gradient), made, 0.0)
            gradient = made
        self.gradients[value.tensor] = gradient

    def graph(self, units: tuple[Unit, ...], num_forward_ops: int) -> ModelGraph:
        """What is written, with lifetimes of storages and kinds of units."""
        storages = _with_lifetimes(self.storages, self.ops, self.tensors, num_forward_ops)
        ops, tensors = tuple(self.ops), tuple(self.tensors)
        graph = ModelGraph("synthetic", ops, storages, tensors, units, num_forward_ops, "drawn")
        kinds = [unit_kind(graph, unit.forward, unit.backward, unit.saved) for unit in units]
        named = zip(units, kinds, strict=True)
        return replace(graph, units=tuple(replace(unit, kind=kind) for unit, kind in named))


def _with_lifetimes(
    storages: Sequence[Storage],
    ops: Sequence[Op],
    tensors: Sequence[TensorView],
    num_forward_ops: int,
) -> tuple[Storage, ...]:
    """Let the program drop every activation after the last operator of its phase that reads it.

    What exists before the step, and gradients of weights, stay to its end.
    """
    dropped = [len(ops)] * len(storages)
    for index, op in enumerate(ops):
        for tensor in (*op.outputs, *op.inputs):
            storage = tensors[tensor].storage
            record = storages[storage]
            if record.role == ACTIVATION and (
                index < num_forward_ops or record.created >= num_forward_ops
            ):
                dropped[storage] = index + 1
    return tuple(replace(s, dropped=end) for s, end in zip(storages, dropped, strict=True))
