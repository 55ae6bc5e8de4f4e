"""The graph of a model that exists on paper only: blocks of layers, with sizes instead of numbers.

Operators stand where PyTorch runs them: the backward of a layer makes the gradient of what it read,
then that of its weight, from what its forward saved. T positions of a sample, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from remora.envs.synthetic_writer import SUM, StepWriter, Value
from remora.graph.model_graph import (
    BACKWARD,
    FORWARD,
    GRADIENT,
    INPUT,
    PARAMETER,
    ModelGraph,
    ModuleCall,
    SavedTensor,
    Unit,
)

__all__ = ["Block", "Layer", "LayerKind", "block_graph"]

_JOIN = "drawn.join.default"
_ATTEND_BACK = 2.5
"""Attention works its scores out again and makes the gradients of three inputs."""


class LayerKind(StrEnum):
    """What a layer does.

    ``MIX`` multiplies by a weight, ``POINT`` is elementwise, ``ATTEND`` compares all positions of
    a sample, ``LOSS`` sums up.
    """

    MIX = "mix"
    POINT = "point"
    ATTEND = "attend"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; it reads and saves what the layer before made.

    Attributes:
        kind: what it does.
        positions: T of what it makes.
        width: C of what it makes.
        taps: positions that each weight of a ``MIX`` sees: 1 for a linear layer, 9 for 3 x 3.
    """

    kind: LayerKind
    positions: int
    width: int
    taps: int = 1


@dataclass(frozen=True, slots=True)
class Block:
    """One unit of the model.

    Attributes:
        layers: one after the other, at least one.
        residual: whether the block's input is added to its result, which has the same size.
        joins: an earlier block whose result is read beside the input; None for a plain chain.
    """

    layers: tuple[Layer, ...]
    residual: bool = False
    joins: int | None = None


def block_graph(
    blocks: Sequence[Block], positions: int, width: int, samples: int, dtype: str
) -> ModelGraph:
    """Write down the operators of a training step.

    Args:
        blocks: the units; the last one ends in a loss.
        positions: T of the input.
        width: C of the input.
        samples: of the batch.
        dtype: of all tensors.
    """
    writer = StepWriter(samples, dtype)
    value = Value(writer.tensor(samples * positions * width, INPUT, "input"), positions, width)
    results: list[Value] = []
    calls: list[list[_Call]] = []
    forwards = []
    for index, block in enumerate(blocks):
        begun = len(writer.ops)
        other = None if block.joins is None else results[block.joins]
        calls.append(_forward(writer, index, block, value, other))
        value = calls[-1][-1].output
        results.append(value)
        forwards.append((begun, len(writer.ops)))
    num_forward_ops = len(writer.ops)
    backwards, saved = {}, {}
    for index in reversed(range(len(blocks))):
        begun = len(writer.ops)
        saved[index] = _backward(writer, index, calls[index])
        backwards[index] = (begun, len(writer.ops))
    units = tuple(
        _unit(index, forwards[index], backwards[index], saved[index])
        for index in range(len(blocks))
    )
    return writer.graph(units, num_forward_ops)


@dataclass(frozen=True, slots=True)
class _Call:
    """What the backward of one layer, sum or joining needs to know.

    ``packed`` is the number of operators that had run when ``saved`` was packed.
    """

    name: str
    inputs: tuple[Value, ...]
    output: Value
    flops: float
    packed: int
    saved: int | None = None
    weight: int | None = None


def _forward(
    writer: StepWriter, unit: int, block: Block, entry: Value, other: Value | None
) -> list[_Call]:
    calls: list[_Call] = []
    value = entry
    if other is not None:
        calls.append(_combine(writer, unit, _JOIN, value, other, value.width + other.width))
        value = calls[-1].output
    for number, layer in enumerate(block.layers):
        calls.append(_layer(writer, unit, layer, value, f"{unit}.{number}"))
        value = calls[-1].output
    if block.residual:
        calls.append(_combine(writer, unit, SUM, value, entry, value.width))
    return calls


def _combine(
    writer: StepWriter, unit: int, name: str, value: Value, other: Value, width: int
) -> _Call:
    # A U-Net brings what comes from below to the grid of what it is joined with.
    made = writer.value(other.positions, width)
    writer.op(name, FORWARD, unit, (value.tensor, other.tensor), made.tensor, 0.0)
    return _Call(name, (value, other), made, 0.0, len(writer.ops))


def _layer(writer: StepWriter, unit: int, layer: Layer, value: Value, name: str) -> _Call:
    weight, flops = None, 0.0
    if layer.kind is LayerKind.MIX:
        weight = writer.tensor(layer.taps * value.width * layer.width, PARAMETER, name)
        flops = 2.0 * writer.samples * layer.positions * writer.elements(weight)
    if layer.kind is LayerKind.ATTEND:
        flops = 4.0 * writer.samples * layer.positions * value.positions * layer.width
    made = writer.value(layer.positions, layer.width)
    read = [value.tensor] if weight is None else [value.tensor, weight]
    writer.op(_name(layer.kind), FORWARD, unit, read, made.tensor, flops)
    return _Call(_name(layer.kind), (value,), made, flops, len(writer.ops), value.tensor, weight)


def _backward(writer: StepWriter, unit: int, calls: Sequence[_Call]) -> list[SavedTensor]:
    """Write a unit's backward; returns what its forward saved."""
    saved: list[SavedTensor] = []
    for call in reversed(calls):
        gradient = writer.gradients.pop(call.output.tensor, None)
        for value in call.inputs:
            if not writer.is_input(value.tensor):
                _input_gradient(writer, unit, call, value, gradient)
        if call.weight is not None:
            _weight_gradient(writer, unit, call, gradient)
        if call.saved is not None:
            name = call.name.split(".")[1]
            saved.append(SavedTensor(name, 0, call.saved, call.packed, len(writer.ops)))
    ordered = enumerate(reversed(saved))
    return [replace(s, name=f"{index}:{s.name}", index=index) for index, s in ordered]


def _input_gradient(
    writer: StepWriter, unit: int, call: _Call, value: Value, gradient: int | None
) -> None:
    """Hand a gradient on; that of a sum is the sum's own."""
    if call.name == SUM and gradient is not None:
        writer.arrive(unit, value, gradient)
        return
    other = call.saved if call.weight is None else call.weight
    read = [tensor for tensor in (gradient, other) if tensor is not None]
    flops = call.flops * (_ATTEND_BACK if call.name == _name(LayerKind.ATTEND) else 1.0)
    made = writer.value(value.positions, value.width).tensor
    writer.op(call.name.replace(".default", "_backward.default"), BACKWARD, unit, read, made, flops)
    writer.arrive(unit, value, made)


def _weight_gradient(writer: StepWriter, unit: int, call: _Call, gradient: int | None) -> None:
    assert call.weight is not None
    name = writer.storages[writer.tensors[call.weight].storage].name
    made = writer.tensor(writer.elements(call.weight), GRADIENT, name, len(writer.ops))
    read = [tensor for tensor in (gradient, call.saved) if tensor is not None]
    writer.op("drawn.mix_weight.default", BACKWARD, unit, read, made, call.flops)


def _unit(
    index: int, forward: tuple[int, int], backward: tuple[int, int], saved: Sequence[SavedTensor]
) -> Unit:
    name = f"blocks.{index}"
    marker = ModuleCall(name, 0) if index else None
    return Unit(index, name, "", marker, (), forward, backward, tuple(saved), (), "")


def _name(kind: LayerKind) -> str:
    return f"drawn.{kind.value}.default"
