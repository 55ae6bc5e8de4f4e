"""Put a memory plan into effect on a model by wrapping the ``forward`` of some of its modules."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from remora.graph.model_graph import ModelGraph, ModuleCall
from remora.hardware.hardware import Hardware
from remora.schedule.schedule import Schedule

__all__ = ["Handle", "apply", "wrapped_forwards"]


def apply(
    model: nn.Module,
    graph: ModelGraph,
    schedule: Schedule,
    hardware: Hardware | None = None,
    allow_lossy: bool = False,
) -> Handle:
    """Make ``model`` run under the memory plan of ``schedule``.

    Train as before; gradients, buffers and random state stay those of the plain model, except
    that compression changes gradients a little. A plan that keeps everything installs nothing.

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
    if plan.offloads and hardware is not None and not hardware.can_offload:
        raise InvalidInputError(
            f"the schedule offloads, and hardware {hardware.name!r} has host.pool="
            f"{hardware.host.pool!r} with host.unified={hardware.host.unified}; offloading there "
            "needs host.pool='emulated'"
        )
    if plan.is_empty:
        return Handle((), None)
    runtime = _Runtime(model, graph, plan, device)
    return Handle(tuple(runtime.install()), runtime)


class Handle:
    """A memory plan in effect on a model; also a context manager that removes it at the end."""

    def __init__(self, wrappers: tuple[_Wrapper, ...], runtime: _Runtime | None) -> None:
        self._wrappers = wrappers
        self._runtime = runtime

    @property
    def host_peak_bytes(self) -> int:
        """Largest number of bytes that were on the host at one time."""
        return self._runtime.mover.pool.peak_bytes if self._runtime is not None else 0

    @property
    def host_bytes(self) -> int:
        """Number of bytes that are on the host now."""
        return self._runtime.mover.pool.bytes_in_use if self._runtime is not None else 0

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
        mover: copies to and from the host.
        errors: compression error of saved tensors by name.
    """

    def __init__(
        self, model: nn.Module, graph: ModelGraph, plan: RuntimePlan, device: torch.device
    ) -> None:
        self.mover: Mover = mover_for(device)
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
        if self._pass is not None or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        timeline = OffloadTimeline(
            self.mover, self._clock, self._plan.end, self._plan.window, self._plan.distance
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
        if current is None:
            return forward(*args, **kwargs)
        call = ModuleCall(path, self._calls[path])
        self._calls[path] += 1
        if call in self._begins:
            with self._glue.paused():
                current.enter_unit(self._begins[call], (args, kwargs))
        if call not in self._steps:
            return forward(*args, **kwargs)
        with self._glue.paused():
            return self._record(forward, args, kwargs)

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
