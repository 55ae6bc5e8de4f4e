"""A plan at work: every forward of a model, its units, and whoever runs them again."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import torch
from torch import nn

from remora.errors import UsageError
from remora.executor.memory.buffers import buffer_slots
from remora.executor.memory.call_recorder import CallRecorder
from remora.executor.memory.forward import ForwardPass, Function
from remora.executor.memory.glue import GlueMode
from remora.executor.memory.module_state import ModuleTree
from remora.executor.memory.mover import Mover
from remora.executor.memory.offload import ForwardClock, OffloadTimeline
from remora.executor.memory.plan import RuntimePlan
from remora.executor.memory.region import Region
from remora.executor.memory.replay import replay
from remora.executor.memory.uncompiled import uncompiled
from remora.executor.passes.cache_stream import find_cache
from remora.executor.passes.streams import PassPoints as StreamedPass
from remora.executor.passes.streams import PassStreams
from remora.executor.state.model_state import ModelState
from remora.executor.state.points import PassPoints
from remora.executor.timeline.event_log import SILENT, EventLog
from remora.graph.model_graph import ModelGraph, ModuleCall
from remora.graph.wrapping import Wrapper, module_at, wrap

__all__ = ["PlanRuntime"]


class PlanRuntime:
    """What all forwards of one applied plan share.

    Attributes:
        state: of the model; None if it is where it always was.
        errors: compression error of saved tensors by name.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: ModelGraph,
        plan: RuntimePlan,
        device: torch.device,
        mover: Mover,
        log: EventLog = SILENT,
    ) -> None:
        self.state: ModelState | None = None
        self._mover = mover
        self._log = log
        self.errors: dict[str, float] = {}
        self._clock = ForwardClock()
        self._model = model
        self._plan = plan
        self._device = device
        for path in sorted({step.path for unit in graph.units for step in unit.steps}):
            module_at(model, path)
        self._slots = tuple(buffer_slots(model, unit) for unit in graph.units)
        self._glue = GlueMode(self._record)
        self._recorder = CallRecorder() if plan.records_calls else None
        self._pass: ForwardPass | None = None
        self._without_gradients: PassPoints | StreamedPass | None = None
        self._calls: Counter[str] = Counter()
        self._trees: dict[str, ModuleTree] = {}
        units = [graph.units[index] for index in sorted(plan.marker_units())]
        self._begins = {unit.marker: unit.index for unit in units if unit.marker is not None}
        self._steps = {
            step for unit in graph.units if plan.regions for step in unit.steps if step.path
        }

    @property
    def is_running(self) -> bool:
        """Whether the model is in the middle of a forward."""
        return self._pass is not None or self._without_gradients is not None

    def install(self) -> list[Wrapper]:
        """Wrap the root model and the modules that the plan needs."""
        paths = {call.path for call in (*self._begins, *self._steps)}
        if self._plan.forward_only:
            paths |= _encoder_paths(self._model)
        modules = {path: module_at(self._model, path) for path in sorted(paths)}
        wrappers = [
            wrap(module, path, uncompiled(functools.partial(self._run_module, path)))
            for path, module in modules.items()
        ]
        return [*wrappers, wrap(self._model, "", uncompiled(self._run_root))]

    def _run_root(self, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._pass is not None or self._without_gradients is not None:
            return forward(*args, **kwargs)
        if self._plan.forward_only and torch.is_grad_enabled():
            raise UsageError(
                "a model that runs by a plan of mode='inference' was called with gradients "
                "enabled; allowed: calls under torch.no_grad() or torch.inference_mode()"
            )
        if not torch.is_grad_enabled():
            return self._run_without_gradients(forward, args, kwargs)
        _refuse_transforms()
        timeline = OffloadTimeline(
            self._mover,
            self._clock,
            self._plan.end,
            self._plan.window,
            self._plan.distance,
            self._new_points(),
            self._log,
        )
        current = ForwardPass(
            self._plan,
            self._slots,
            self._device,
            self._clock,
            timeline,
            self._replay,
            self._recorder,
            self.errors,
        )
        self._calls.clear()
        self._pass = current
        try:
            with current.hooks():
                output = self._run_glued(current, forward, args, kwargs)
        finally:
            self._pass = None
        current.finish(output)
        return output

    def _new_points(self) -> PassPoints | None:
        points = self.state.points if self.state is not None else None
        return PassPoints(points, self._plan) if points is not None else None

    def _run_without_gradients(
        self, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Only weights that wait on the host have to be brought in."""
        streams = self.state.passes if self.state is not None else None
        if streams is not None:
            return self._run_pass(streams, forward, args, kwargs)
        points = self._new_points()
        if points is None:
            return forward(*args, **kwargs)
        self._calls.clear()
        self._without_gradients = points
        points.forward(0)
        try:
            return forward(*args, **kwargs)
        finally:
            self._without_gradients = None

    def _run_pass(
        self,
        streams: PassStreams,
        forward: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a pass of inference; nothing that came from the host stays."""
        if streams.caches is not None:
            streams.caches.attach(find_cache(args, kwargs))
        points = StreamedPass(streams, self._plan.end, self._plan.distance)
        self._calls.clear()
        self._without_gradients = points
        points.forward(0)
        try:
            return forward(*args, **kwargs)
        finally:
            points.finish()
            self._without_gradients = None

    def _run_glued(
        self,
        current: ForwardPass,
        forward: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        current.enter_unit(0)
        if not self._plan.regions:
            return forward(*args, **kwargs)
        with self._glue:
            return forward(*args, **kwargs)

    def _run_module(
        self, path: str, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        current = self._pass
        if current is None and self._without_gradients is None:
            return self._run_alone(path, forward, args, kwargs)
        call = ModuleCall(path, self._calls[path])
        self._calls[path] += 1
        if current is None:
            if call in self._begins and self._without_gradients is not None:
                self._without_gradients.forward(self._begins[call])
            return forward(*args, **kwargs)
        if call in self._begins:
            with self._glue.paused():
                current.enter_unit(self._begins[call], (args, kwargs))
        if call not in self._steps:
            return forward(*args, **kwargs)
        if not current.recording:
            return forward(*args, **kwargs)
        with self._glue.paused():
            return current.record(forward, args, kwargs, self._tree_at(path).again(forward))

    def _tree_at(self, path: str) -> ModuleTree:
        if path not in self._trees:
            changing = [slot for slots in self._slots for slot in slots]
            self._trees[path] = ModuleTree(module_at(self._model, path), path, changing)
        return self._trees[path]

    def _run_alone(
        self, path: str, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a module in a replay, or for somebody who calls it without the model around it."""
        if self.state is not None and self.state.missing(module_at(self._model, path)):
            if self._plan.forward_only:
                # As an encoder is, whose output many passes of the decoder read.
                with self.state.held(module_at(self._model, path)):
                    return forward(*args, **kwargs)
            raise RuntimeError(
                f"the weights of module {path!r} wait on the host; call the whole model, or remove "
                "the plan first"
            )
        return forward(*args, **kwargs)

    def _record(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        current = self._pass
        if current is None or not current.recording:
            return function(*args, **kwargs)
        return current.record(function, args, kwargs)

    def _replay(self, region: Region) -> None:
        """Replay with the wrappers out of the way."""
        current, self._pass = self._pass, None
        try:
            replay(region, self._device, self._log)
        finally:
            self._pass = current


def _encoder_paths(model: nn.Module) -> set[str]:
    """Paths of an encoder that is called by itself before tokens are generated."""
    config = getattr(model, "config", None)
    if not getattr(config, "is_encoder_decoder", False) or not hasattr(model, "get_encoder"):
        return set()
    encoder: Any = getattr(model, "get_encoder")()  # noqa: B009 - of the library's models only
    return {path for path, module in model.named_modules() if module is encoder and path}


def _refuse_transforms() -> None:
    """PyTorch has no hooks, or wrong ones, for what is saved inside of these.

    Raises:
        UsageError: one is active.
    """
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    if forward_mode or torch._C._functorch.peek_interpreter_stack() is not None:
        kind = "forward-mode differentiation" if forward_mode else "a transform of torch.func"
        raise UsageError(
            f"a model that runs by a plan was called inside of {kind}, where what is saved cannot "
            "be recomputed or moved; call handle.remove() first, or use torch.autograd.grad"
        )
