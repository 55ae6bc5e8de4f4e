"""Cutting a model over the ranks that share its layers, and back.

``torch.distributed.tensor.parallel`` walks the model; the styles are ours, since PyTorch's turn
weights and what passes between them into ``DTensor``, which saved-tensor hooks and dispatch modes
of a memory plan would see instead of the operators that were traced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module

from remora.graph.tensor.collectives import TensorGroup
from remora.graph.tensor.cut import Entrance, cut_layer
from remora.graph.tensor.plan import Style, cut_dimension, tensor_plan

__all__ = ["WHOLE", "SharedLayers", "shared_layers"]


@dataclass(frozen=True)
class SharedLayers:
    """How the weights of a model are cut, seen from one of the ranks.

    Attributes:
        group: the ranks.
        dimensions: that are cut, by the first name of a weight in the model; others are whole.
    """

    group: TensorGroup
    dimensions: Mapping[str, int] = field(default_factory=dict)

    def part_of(self, name: str, whole: Tensor) -> Tensor:
        """This rank's part of a weight, as a view."""
        dimension = self.dimensions.get(name)
        if dimension is None:
            return whole
        size = whole.shape[dimension] // self.group.degree
        return whole.narrow(dimension, self.group.rank * size, size)

    def joined(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Whole copies of the weights that ranks have parts of.

        Args:
            parts: by name, of all ranks of the group.
        """
        return {
            name: torch.cat([part[name] for part in parts], self.dimensions[name])
            if name in self.dimensions
            else value.clone()
            for name, value in parts[0].items()
        }


WHOLE = SharedLayers(TensorGroup(1))
"""Nothing is cut."""


class _Cut(ParallelStyle):
    """Cuts one layer into plain tensors.

    Args:
        style: how.
        group: the ranks.
        entrance: shared by all layers of a model.
        known: parts made so far.
    """

    def __init__(
        self,
        style: Style,
        group: TensorGroup,
        entrance: Entrance,
        known: dict[tuple[int, int], nn.Parameter],
    ) -> None:
        super().__init__()
        self._style, self._group = style, group
        self._entrance, self._known = entrance, known

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        cut_layer(module, self._style, self._group, self._entrance, self._known)
        return module


@contextlib.contextmanager
def shared_layers(model: nn.Module, group: dist.ProcessGroup) -> Iterator[SharedLayers]:
    """Make a model this rank's part of itself while the context is open.

    Args:
        model: whole and equal on all ranks of the group.
        group: the ranks that share its layers; one rank changes nothing.

    Yields:
        How its weights are cut.
    """
    degree = dist.get_world_size(group)
    if degree == 1:
        yield WHOLE
        return
    ranks = TensorGroup(degree, dist.get_rank(group), group.group_name)
    plan = tensor_plan(model)
    layers = [model.get_submodule(path) for path in plan]
    before = [(layer, dict(layer._parameters), vars(layer).get("forward")) for layer in layers]
    dimensions = cut_dimensions(model, plan)
    entrance, known = Entrance(), dict[tuple[int, int], nn.Parameter]()
    device_type = next(model.parameters()).device.type
    parallelize_module(
        model,
        DeviceMesh.from_group(group, device_type),
        {path: _Cut(style, ranks, entrance, known) for path, style in plan.items()},
    )
    try:
        yield SharedLayers(ranks, dimensions)
    finally:
        for layer, parameters, forward in before:
            layer._parameters.update(parameters)
            del layer.forward
            if forward is not None:
                layer.forward = forward


def cut_dimensions(model: nn.Module, plan: Mapping[str, Style]) -> dict[str, int]:
    """Dimensions of weights that a plan cuts, by their first name in a whole model."""
    found: dict[int, int] = {}
    for path, style in plan.items():
        dimension = cut_dimension(style)
        if dimension is None:
            continue
        layer = model.get_submodule(path)
        found[id(layer._parameters["weight"])] = dimension
        if style in (Style.COLWISE, Style.GATHERED):
            found[id(layer._parameters.get("bias"))] = 0
    return {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}
