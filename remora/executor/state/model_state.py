"""The state of one model on one device, put where a plan says."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.optim import Optimizer

from remora.executor.memory.mover import Mover
from remora.executor.passes.cache_stream import CacheStream
from remora.executor.passes.streams import PassStreams
from remora.executor.state.host_optimizer import HostStep, OptimizerFactory, host_optimizer
from remora.executor.state.host_weights import HostWeights
from remora.executor.state.leaving_gradients import LeavingGradients
from remora.executor.state.optimizers import placed_optimizer
from remora.executor.state.points import StatePoints
from remora.executor.state.weight_stream import HostStateDict, StreamedStorage, WeightStream
from remora.graph.model_graph import ModelGraph
from remora.schedule.parameters import StaticStorages
from remora.schedule.schedule import Placement, StatePlan
from remora.schedule.state_bytes import streamed_storages

__all__ = ["ModelState"]


class ModelState:
    """Weights, gradients and optimizer of a model under a plan of its state.

    Weights that wait on the host leave the device here and come back with :meth:`close`.

    Args:
        model: the module that ``graph`` was traced from.
        graph: its graph.
        plan: valid for it, not sharded.
        mover: issues the copies; its pool gives the memory.
        caches: that wait on the host, in inference.
        units: that run here; None for all.

    Attributes:
        points: has to be told which unit of a step runs; None if nothing moves with the units.
        passes: what moves with the units of a pass, for a graph without a backward.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: ModelGraph,
        plan: StatePlan,
        mover: Mover,
        caches: CacheStream | None = None,
        units: Collection[int] | None = None,
    ) -> None:
        self.points: StatePoints | None = None
        self.passes: PassStreams | None = None
        self._model = model
        self._plan = plan
        self._mover = mover
        self._units = range(len(graph.units)) if units is None else units
        self._weights = HostWeights(mover)
        self._streamed: dict[nn.Parameter, StreamedStorage] = {}
        self._state_dicts: list[HostStateDict] = []
        if not plan.moves_with_units and caches is None:
            return
        stream = self._stream(graph) if plan.streamed_units else None
        if graph.forward_only:
            self.passes = PassStreams(stream, caches)
            return
        self.points = StatePoints(stream)
        if plan.gradients is Placement.HOST:
            self.points.gradients = self._leaving(self.points)

    @property
    def optimizer_on_host(self) -> bool:
        """Whether the optimizer keeps its state on the host."""
        return self._plan.optimizer is Placement.HOST

    def make_optimizer(self, factory: OptimizerFactory) -> Optimizer:
        """Make an optimizer whose state lives where the plan says.

        On the host, its ``step()`` takes the gradients of the model away, as ``zero_grad`` would.

        Args:
            factory: makes an optimizer of PyTorch for a list of weights.

        Raises:
            InvalidInputError: there is no such optimizer in eight bits.
            MissingExtraError: torchao is needed and not installed.
        """
        if self.points is None:
            return placed_optimizer(
                self._trained(), self._plan.optimizer, factory, self._mover, self._weights
            )
        weights = [self._weights.of(parameter) for parameter in self._trained()]
        step = HostStep(weights, self._mover, self.points.finish, self._streamed.__contains__)
        return host_optimizer(factory, step)

    def gradients(self) -> Mapping[str, Tensor | None]:
        """Gradients of this step by name, where they are now."""
        if self.points is not None:
            self.points.finish()
        if self._plan.gradients is not Placement.HOST:
            return {name: p.grad for name, p in self._model.named_parameters()}
        self._mover.finish()
        return {
            name: self._weights.of(p).weight.grad if p.requires_grad else None
            for name, p in self._model.named_parameters()
        }

    def missing(self, module: nn.Module) -> bool:
        """Whether a weight of a module is on the host only, at this moment."""
        return bool(self._streamed) and any(
            parameter in self._streamed and not self._streamed[parameter].present
            for parameter in module.parameters()
        )

    @contextlib.contextmanager
    def held(self, module: nn.Module) -> Iterator[None]:
        """Keep the weights of a module on the device for a while."""
        storages = {self._streamed[p] for p in module.parameters() if p in self._streamed}
        for storage in storages:
            storage.fetch()
        for storage in storages:
            storage.wait()
        try:
            yield
        finally:
            for storage in storages:
                storage.release()

    def close(self) -> None:
        """Bring everything back to the device."""
        if self.points is not None:
            self.points.finish()
            if self.points.gradients is not None:
                self.points.gradients.close()
        for state_dict in self._state_dicts:
            state_dict.remove()
        for storage in {id(s): s for s in self._streamed.values()}.values():
            storage.close()
        self._weights.close()
        self._streamed = {}

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]

    def _leaving(self, points: StatePoints) -> LeavingGradients:
        weights = {p: self._weights.of(p) for p in self._trained()}
        return LeavingGradients(MappingProxyType(weights), self._mover, points.begin_expected)

    def _stream(self, graph: ModelGraph) -> WeightStream:
        statics = StaticStorages(graph, 1)
        storages: dict[int, StreamedStorage] = {}
        here = {entry.storage for entry in statics.weights_of(self._units)}
        for number in sorted(here & streamed_storages(statics.all, self._plan)):
            name = graph.storages[number].name
            storage = self._model.get_parameter(name).untyped_storage()
            owners = [p for p in self._model.parameters() if _same(p.untyped_storage(), storage)]
            storages[number] = StreamedStorage(name, storage, self._mover)
            for parameter in owners:
                self._streamed[parameter] = storages[number]
                self._weights.waiting(parameter, storages[number].host_bytes)
        self._keep_state_dicts()
        return WeightStream(
            {
                unit: [storages[e.storage] for e in entries if e.storage in storages]
                for unit in self._units
                for entries in [statics.weights_of((unit,))]
            }
        )

    def _keep_state_dicts(self) -> None:
        for module in self._model.modules():
            own = {
                name: (self._weights.of(p).weight, self._streamed[p])
                for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
                if p in self._streamed
            }
            if own:
                self._state_dicts.append(HostStateDict(module, own))


def _same(a: object, b: object) -> bool:
    return getattr(a, "_cdata", None) == getattr(b, "_cdata", None)
