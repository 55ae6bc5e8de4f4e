"""Put a memory plan into effect on a model by wrapping the ``forward`` of some of its modules."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.buffers import buffer_slots
from remora.executor.memory.call_recorder import CallRecorder
from remora.executor.memory.forward import ForwardPass, Function
from remora.executor.memory.glue import GlueMode
from remora.executor.memory.mover import Mover, mover_for
from remora.executor.memory.offload import ForwardClock, OffloadTimeline
from remora.executor.memory.plan import RuntimePlan, runtime_plan
from remora.executor.memory.region import Region
from remora.executor.memory.replay import replay
from remora.executor.state.host_optimizer import OptimizerFactory
from remora.executor.state.model_state import ModelState
from remora.executor.state.points import PassPoints
from remora.graph.model_graph import ModelGraph, ModuleCall
from remora.hardware.hardware import Hardware
from remora.schedule.schedule import Placement, Schedule

__all__ = ["Handle", "apply", "wrapped_forwards"]


def apply(
    model: nn.Module,
    graph: ModelGraph,
    schedule: Schedule,
    hardware: Hardware | None = None,
    allow_lossy: bool = False,
) -> Handle:
    """Make ``model`` run under the memory plan of ``schedule``, with its state where that says.

    Train as before; gradients, buffers and random state stay those of the plain model, except
    that compression changes gradients a little. A plan that keeps everything installs nothing.
    Where the schedule says anything about the state, the handle's ``make_optimizer`` has to make
    the optimizer, and weights that wait on the host are read through ``state_dict()``.

    Args:
        model: the module that ``graph`` was traced from.
        graph: its graph.
        schedule: for that graph, on one device.
        hardware: says whether offloading is possible; None takes it as possible.
        allow_lossy: whether the schedule may compress saved tensors.

    Returns:
        A handle whose ``remove()`` restores the model exactly.

    Raises:
        InvalidInputError: the schedule does not fit the graph, the runtime or the hardware, or the
            model lacks a module of the graph.
    """
    device = _device_of(model)
    plan = runtime_plan(graph, schedule, allow_lossy)
    to_host = plan.offloads or schedule.state.optimizer is Placement.HOST
    if to_host and hardware is not None and not hardware.can_offload:
        raise InvalidInputError(
            f"the schedule uses the host, and hardware {hardware.name!r} has host.pool="
            f"{hardware.host.pool!r} with host.unified={hardware.host.unified}; that needs "
            "host.pool='emulated'"
        )
    mover = mover_for(device)
    runtime = None if plan.is_empty else _Runtime(model, graph, plan, device, mover)
    state = ModelState(model, graph, schedule.state, mover)
    if runtime is None:
        return Handle((), None, state, mover)
    runtime.state = state
    return Handle(tuple(runtime.install()), runtime, state, mover)


class Handle:
    """A plan in effect on a model; also a context manager that removes it at the end."""

    def __init__(
        self,
        wrappers: tuple[_Wrapper, ...],
        runtime: _Runtime | None,
        state: ModelState,
        mover: Mover,
    ) -> None:
        self._wrappers = wrappers
        self._runtime = runtime
        self._state = state
        self._mover = mover
        self._removed = False

    @property
    def host_peak_bytes(self) -> int:
        """Largest number of bytes that were on the host at one time, optimizer state left out."""
        return self._mover.pool.peak_bytes

    @property
    def host_bytes(self) -> int:
        """Number of bytes that are on the host now, optimizer state left out."""
        return self._mover.pool.bytes_in_use

    @property
    def optimizer_on_host(self) -> bool:
        """Whether the optimizer keeps its state on the host."""
        return self._state.optimizer_on_host

    def make_optimizer(self, factory: OptimizerFactory) -> torch.optim.Optimizer:
        """Make an optimizer whose state lives where the schedule says.

        On the host its ``step()`` also moves gradients and weights, and takes the gradients away.
        Make a new one after :meth:`remove`.

        Args:
            factory: makes one of PyTorch's for a list of weights, as
                ``lambda weights: torch.optim.AdamW(weights, lr=1e-4)``.

        Raises:
            InvalidInputError: there is no such optimizer in eight bits.
            MissingExtraError: torchao is needed and not installed.
        """
        return self._state.make_optimizer(factory)

    def gradients(self) -> Mapping[str, torch.Tensor | None]:
        """Gradients of this step by name of the weight, on the device or on the host."""
        return self._state.gradients()

    @property
    def compression_error(self) -> dict[str, float]:
        """Error of compressed tensors in the first step, by unit and name of the saved tensor.

        It is the largest difference over the largest value of the storage.
        """
        return dict(self._runtime.errors) if self._runtime is not None else {}

    def remove(self) -> None:
        """Restore the model; a second call does nothing.

        Raises:
            RuntimeError: somebody else replaced the ``forward`` of a module since.
        """
        for wrapper in self._wrappers:
            wrapper.check()
        for wrapper in self._wrappers:
            wrapper.remove()
        self._wrappers = ()
        if not self._removed:
            self._removed = True
            self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


@dataclass(frozen=True)
class _Wrapper:
    """One replaced ``forward``: what the module's own dictionary held, and holds now."""

    module: nn.Module
    path: str
    own: Function | None
    wrapped: Function

    def check(self) -> None:
        if vars(self.module).get("forward") is not self.wrapped:
            raise RuntimeError(
                f"module {self.path!r} was wrapped by somebody else after this plan was applied; "
                "remove that wrapper first"
            )

    def remove(self) -> None:
        if self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


class _Runtime:
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
    ) -> None:
        self.state: ModelState | None = None
        self._mover = mover
        self.errors: dict[str, float] = {}
        self._clock = ForwardClock()
        self._model = model
        self._plan = plan
        self._device = device
        for path in sorted({step.path for unit in graph.units for step in unit.steps}):
            _module_at(model, path)
        self._slots = tuple(buffer_slots(model, unit) for unit in graph.units)
        self._glue = GlueMode(self._record)
        self._recorder = CallRecorder() if plan.records_calls else None
        self._pass: ForwardPass | None = None
        self._without_gradients: PassPoints | None = None
        self._calls: Counter[str] = Counter()
        units = [graph.units[index] for index in sorted(plan.marker_units())]
        self._begins = {unit.marker: unit.index for unit in units if unit.marker is not None}
        self._steps = {
            step for unit in graph.units if plan.regions for step in unit.steps if step.path
        }

    def install(self) -> list[_Wrapper]:
        """Wrap the root model and the modules that the plan needs."""
        paths = {call.path for call in (*self._begins, *self._steps)}
        modules = {path: _module_at(self._model, path) for path in sorted(paths)}
        wrappers = [
            _wrap(module, path, functools.partial(self._run_module, path))
            for path, module in modules.items()
        ]
        return [*wrappers, _wrap(self._model, "", self._run_root)]

    def _run_root(self, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._pass is not None or self._without_gradients is not None:
            return forward(*args, **kwargs)
        if not torch.is_grad_enabled():
            return self._run_without_gradients(forward, args, kwargs)
        timeline = OffloadTimeline(
            self._mover,
            self._clock,
            self._plan.end,
            self._plan.window,
            self._plan.distance,
            self._new_points(),
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
        with self._glue.paused():
            return self._record(forward, args, kwargs)

    def _run_alone(
        self, path: str, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a module in a replay, or for somebody who calls it without the model around it."""
        if self.state is not None and self.state.missing(_module_at(self._model, path)):
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
            replay(region, self._device)
        finally:
            self._pass = current


def _wrap(
    module: nn.Module,
    path: str,
    run: Callable[[Function, tuple[Any, ...], dict[str, Any]], Any],
) -> _Wrapper:
    own = vars(module).get("forward")
    forward = module.forward

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return run(forward, args, kwargs)

    module.forward = wrapped
    return _Wrapper(module, path, own, wrapped)


@contextlib.contextmanager
def wrapped_forwards(
    model: nn.Module,
    paths: Iterable[str],
    run: Callable[[str, Function, tuple[Any, ...], dict[str, Any]], Any],
) -> Iterator[None]:
    """Let ``run(path, forward, args, kwargs)`` stand for the forward of some modules meanwhile.

    Raises:
        InvalidInputError: the model lacks a module.
    """
    wrappers: list[_Wrapper] = []
    try:
        for path in sorted(paths):
            module = _module_at(model, path)
            wrappers.append(_wrap(module, path, functools.partial(run, path)))
        yield
    finally:
        for wrapper in wrappers:
            wrapper.remove()


def _module_at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise InvalidInputError(f"the model has no module {path!r} of its graph") from error


def _device_of(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
