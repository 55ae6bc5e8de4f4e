"""What one rank of a pipeline does in a pass of inference: its forwards, in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remora.executor.memory.ambient import random_state, random_state_of
from remora.executor.memory.mover import mover_for
from remora.executor.passes.host_caches import caches_on_host
from remora.executor.passes.streams import PassPoints, PassStreams
from remora.executor.pipeline.exchange import Exchange
from remora.executor.pipeline.forward_tape import ForwardTape
from remora.executor.pipeline.rank_layout import RankLayout, layout_of_rank
from remora.executor.pipeline.seeds import UnitSeeds
from remora.executor.pipeline.stage_module import StageModule
from remora.executor.pipeline.world import World
from remora.executor.state.model_state import ModelState
from remora.graph.model_graph import ModelGraph
from remora.schedule.schedule import Schedule

__all__ = ["PlayedPass", "RankPasses", "Results", "UseCache"]

UseCache = Callable[[int], Any]
"""Puts the cache of a micro-batch where the recorded calls find it, and returns it."""

Results = Callable[[int, tuple[Tensor, ...]], None]
"""Takes the number of a micro-batch and its results, which belong to the caller from then on."""


class RankPasses:
    """The stages of one rank, with the weights and caches that wait on the host.

    All passes of a model, whatever their shapes, run through the same one.

    Args:
        model: the whole model, in evaluation mode; what this rank's stages use of it is moved.
        tape: its pass over one micro-batch.
        graph: of one micro-batch, without a backward.
        schedule: valid for it.
        world: where this process stands.
        device: where the stages run.
        seed: of the random operators.

    Attributes:
        example: the pass of ``tape``.
        parameters: of this rank's stages, by name in the model.
        buffers: of the same, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        tape: ForwardTape,
        graph: ModelGraph,
        schedule: Schedule,
        world: World,
        device: torch.device,
        seed: int,
    ) -> None:
        self._model = model
        self._graph = graph
        self._schedule = schedule
        self._world = world
        self._device = device
        self._seeds = UnitSeeds(graph, seed, world.replica)
        self._streams: PassStreams | None = None
        self._points: PassPoints | None = None
        self.example = self.played(tape)
        layout = self.example.layout
        self.parameters = layout.parameters
        self.buffers = {name: model.get_buffer(name) for name in layout.buffers}
        self._state = self._new_state(layout)

    def played(self, tape: ForwardTape) -> PlayedPass:
        """Return how this rank plays a pass of the model.

        Args:
            tape: of one micro-batch, recorded for the same graph.
        """
        pipeline = self._schedule.pipeline
        layout = layout_of_rank(self._model, tape, self._graph, pipeline, self._world.rank)
        return PlayedPass(self, self._model, tape, layout, self._seeds)

    def exchange(self, layout: RankLayout, tape: ForwardTape) -> Exchange:
        """Return the messages of one pass, with receive buffers that last as long."""
        return Exchange(layout.post, tape.values, self._world.links, self._device)

    @property
    def device(self) -> torch.device:
        """Where the stages run."""
        return self._device

    @contextlib.contextmanager
    def streaming(self, stage: int, end: int, cache: Any) -> Iterator[None]:
        """Bring in what the units of a stage need for one micro-batch, and let go of it.

        Args:
            stage: its number, which has a pace of its own.
            end: unit after its last one.
            cache: keys and values of the micro-batch; None for a pass without.
        """
        streams = self._streams
        if streams is None:
            yield
            return
        _, distance = self._schedule.memory.pace_of(stage)
        if streams.caches is not None:
            streams.caches.attach(cache)
        self._points = PassPoints(streams, end, distance)
        try:
            yield
        finally:
            self._points.finish()
            self._points = None

    def begin_unit(self, unit: int) -> None:
        """Note that a unit is about to run."""
        if self._points is not None:
            self._points.forward(unit)

    def close(self) -> None:
        """Bring everything back to the device."""
        if self._streams is not None:
            self._streams.close()
        self._state.close()

    def _new_state(self, layout: RankLayout) -> ModelState:
        """Take what waits on the host off the device, of the units that run here."""
        units = sorted(u for part in layout.parts.values() for u in range(*part.span))
        state, mover = self._schedule.state, mover_for(self._device)
        (stage,) = (part.index for part in layout.parts.values())
        window, _ = self._schedule.memory.pace_of(stage)
        kept = [unit for unit in state.host_caches if unit in units]
        caches = caches_on_host(self._model, self._graph, kept, mover, self._device, window)
        placed = ModelState(self._model, self._graph, state, mover, caches, units)
        self._streams = placed.passes
        return placed


class PlayedPass:
    """One recorded pass as a rank plays it, for all micro-batches.

    Args:
        passes: of the rank.
        model: the whole model.
        tape: of one micro-batch.
        layout: of the rank.
        seeds: of the random operators.

    Attributes:
        layout: of the rank.
    """

    def __init__(
        self,
        passes: RankPasses,
        model: nn.Module,
        tape: ForwardTape,
        layout: RankLayout,
        seeds: UnitSeeds,
    ) -> None:
        self.layout = layout
        self._passes = passes
        self._tape = tape
        self._batches: Sequence[Sequence[Any]] = ()
        self._modules = {
            number: StageModule(
                model, part, None, self._leaves, seeds, on_unit=passes.begin_unit
            ).to(passes.device)
            for number, part in layout.parts.items()
        }

    @property
    def batch_positions(self) -> frozenset[int]:
        """Positions of the leaves of the batch that this rank reads."""
        return frozenset(p for m in self._modules.values() for p in m.batch_positions)

    def run(
        self,
        batches: Sequence[Sequence[Any]],
        take: Results,
        use_cache: UseCache | None = None,
    ) -> None:
        """Run the forwards of all micro-batches.

        Args:
            batches: leaves of the inputs of every micro-batch, on the device as far as this rank
                reads them.  # [micro_batches][num_leaves]
            take: is given the results of every micro-batch on the last rank.
            use_cache: for passes with a cache.
        """
        self._batches = batches
        device = self._passes.device
        exchange = self._passes.exchange(self.layout, self._tape)
        with torch.no_grad(), random_state_of(random_state(device), device):
            exchange.begin_step()
            for _, number, micro_batch in self.layout.tasks:
                exchange.begin_task()
                cache = None if use_cache is None else use_cache(micro_batch)
                self._forward(number, micro_batch, exchange, cache, take)
            exchange.end_step()
        self._batches = ()

    def _forward(
        self, number: int, micro_batch: int, exchange: Exchange, cache: Any, take: Results
    ) -> None:
        part = self.layout.parts[number]
        received = exchange.received(number, micro_batch, part.received)
        with self._passes.streaming(part.index, part.span[1], cache):
            outputs: tuple[Tensor, ...] = self._modules[number](*received, micro_batch=micro_batch)
        if part.index < self.layout.num_stages - 1:
            exchange.send(number, micro_batch, part.exported, outputs)
            return
        made = dict(zip(part.exported, outputs, strict=True))
        take(micro_batch, tuple(made[n] for n in self._tape.results))

    def _leaves(self, micro_batch: int) -> Sequence[Any]:
        return self._batches[micro_batch]
