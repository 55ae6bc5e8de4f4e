"""Making a model one rank's part of itself: cut weights, and forwards with collectives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from remora.graph.tensor.collectives import TensorGroup, copy_into, gather_last, sum_out_of
from remora.graph.tensor.plan import Style, cut_dimension

__all__ = ["Entrance", "cut_layer", "cut_model"]


@dataclass
class Entrance:
    """The last tensor that was let into a cut region, so that layers which share it enter once.

    Attributes:
        outside: the tensor.
        inside: its copy.
    """

    outside: Tensor | None = None
    inside: Tensor | None = None

    def enter(self, x: Tensor, group: TensorGroup) -> Tensor:
        """Let a tensor in; the same one comes out the same."""
        if self.outside is not x or self.inside is None:
            self.outside, self.inside = x, copy_into(x, group)
        return self.inside

    def leave(self) -> None:
        """Let go of both at the end of a region."""
        self.outside = self.inside = None


def cut_model(model: nn.Module, plan: Mapping[str, Style], group: TensorGroup) -> None:
    """Cut every layer of a plan, in place; shared weights stay shared.

    Args:
        model: parameters real or fake.
        plan: style by module path.
        group: the ranks, and which of them this one is.
    """
    entrance, known = Entrance(), dict[tuple[int, int], nn.Parameter]()
    for path, style in plan.items():
        cut_layer(model.get_submodule(path), style, group, entrance, known)


def cut_layer(
    layer: nn.Module,
    style: Style,
    group: TensorGroup,
    entrance: Entrance,
    known: dict[tuple[int, int], nn.Parameter],
) -> None:
    """Cut one layer in place.

    Args:
        layer: a Linear, an Embedding, or for ``SUMMED`` anything.
        style: how.
        group: the ranks.
        entrance: shared by all layers of a model.
        known: parts made so far, by the whole weight's identity and dimension; receives new ones.
    """
    dimension = cut_dimension(style)
    if dimension is not None:
        _cut(layer, "weight", dimension, group, known)
        if style in (Style.COLWISE, Style.GATHERED) and layer.bias is not None:
            _cut(layer, "bias", 0, group, known)
    if style is Style.SUMMED:
        layer.forward = functools.partial(_summed, layer, layer.forward, group)
        return
    forwards: dict[Style, Callable[..., Tensor]] = {
        Style.COLWISE: _colwise,
        Style.GATHERED: _gathered,
        Style.ROWWISE: _rowwise,
        Style.EMBEDDING: _embedding,
    }
    layer.forward = functools.partial(forwards[style], layer, group, entrance)


def _cut(
    layer: nn.Module,
    name: str,
    dimension: int,
    group: TensorGroup,
    known: dict[tuple[int, int], nn.Parameter],
) -> None:
    whole = layer._parameters[name]
    assert whole is not None
    key = (id(whole), dimension)
    if key not in known:
        size = whole.shape[dimension] // group.degree
        part = whole.detach().narrow(dimension, group.rank * size, size)
        copied = part.clone(memory_format=torch.contiguous_format)
        known[key] = nn.Parameter(copied, requires_grad=whole.requires_grad)
    layer._parameters[name] = known[key]


def _colwise(layer: nn.Linear, group: TensorGroup, entrance: Entrance, x: Tensor) -> Tensor:
    """``[..., in]`` to ``[..., out / degree]``."""
    return functional.linear(entrance.enter(x, group), layer.weight, layer.bias)


def _gathered(layer: nn.Linear, group: TensorGroup, entrance: Entrance, x: Tensor) -> Tensor:
    """``[..., in]`` to ``[..., out]``."""
    part = _colwise(layer, group, entrance, x)
    entrance.leave()
    return gather_last(part, group)


def _rowwise(layer: nn.Linear, group: TensorGroup, entrance: Entrance, x: Tensor) -> Tensor:
    """``[..., in / degree]`` to ``[..., out]``; the bias is whole and added once."""
    entrance.leave()
    total = sum_out_of(functional.linear(x, layer.weight), group)
    return total if layer.bias is None else total + layer.bias


def _embedding(
    layer: nn.Embedding, group: TensorGroup, entrance: Entrance, tokens: Tensor
) -> Tensor:
    """Rows of this rank's slice of the table, zeros for the rest, summed: ``[..., width]``."""
    rows = layer.weight.shape[0]
    local = tokens - group.rank * rows
    elsewhere = (local < 0) | (local >= rows)
    found = functional.embedding(local.masked_fill(elsewhere, 0), layer.weight)
    return sum_out_of(found.masked_fill(elsewhere.unsqueeze(-1), 0.0), group)


def _summed(
    layer: nn.Module, forward: object, group: TensorGroup, *args: object, **kwargs: object
) -> object:
    """Run a layer that every rank has whole on a slice of what it works on."""
    weights = {name: copy_into(weight, group) for name, weight in layer.named_parameters()}
    own = {**layer._parameters}
    try:
        for name, weight in weights.items():
            layer._parameters[name] = weight  # type: ignore[assignment]
        return forward(*args, **kwargs)  # type: ignore[operator]
    finally:
        layer._parameters.update(own)
