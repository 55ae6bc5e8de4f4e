"""Which weights and buffers of a model a stage reads.

A module that is called in several stages, as a list of layers that takes their number, holds
weights of all of them; a stage has only those that its own units read.
"""

from __future__ import annotations

from torch import nn

from remora.executor.pipeline.parts import StagePart
from remora.graph.model_graph import BUFFER, PARAMETER, ModelGraph
from remora.schedule.parameters import StaticStorages

__all__ = ["StageTensors"]


class StageTensors:
    """Weights and buffers by stage.

    Args:
        model: the whole model.
        graph: of it.
    """

    def __init__(self, model: nn.Module, graph: ModelGraph) -> None:
        self._statics = StaticStorages(graph, 1)
        self._first_name = {id(p): name for name, p in model.named_parameters()}
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
        self._storages = graph.storages

    def parameters(self, part: StagePart) -> dict[str, nn.Parameter]:
        """Return the weights of a stage, by their first name in the model."""
        found = [self._parameters[name] for name in self._read(part, PARAMETER)]
        names = {o.parameter for o in part.origins.values() if o.parameter is not None}
        found += [self._parameters[name] for name in names]
        return {self._first_name[id(parameter)]: parameter for parameter in found}

    def buffers(self, part: StagePart) -> list[str]:
        """Return the names of the buffers of a stage."""
        # A constant that the model's code holds counts as a buffer, and is nobody's attribute.
        return [name for name in self._read(part, BUFFER) if name in self._buffers]

    def _read(self, part: StagePart, role: str) -> list[str]:
        entries = self._statics.of_units(range(*part.span))
        return [self._storages[entry.storage].name for entry in entries if entry.role == role]
