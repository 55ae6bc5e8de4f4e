"""Put a plan into effect on a model by wrapping the ``forward`` of some of its modules."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.mover import Mover, mover_for
from remora.executor.memory.plan import runtime_plan
from remora.executor.memory.runtime import PlanRuntime
from remora.executor.memory.same_model import check_weights
from remora.executor.memory.uncompiled import check_uncompiled
from remora.executor.passes.host_caches import caches_on_host
from remora.executor.state.host_optimizer import OptimizerFactory
from remora.executor.state.model_state import ModelState
from remora.executor.timeline.event_log import SILENT, EventLog
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.assignment import reduced_modules
from remora.graph.precision.reduced import reduced_model
from remora.graph.wrapping import Wrapper, wrapped_path
from remora.hardware.hardware import Hardware
from remora.schedule.problem import Problem
from remora.schedule.schedule import Placement, Schedule

__all__ = ["Handle", "Planned", "apply"]


def apply(
    model: nn.Module,
    graph: ModelGraph,
    schedule: Schedule,
    hardware: Hardware | None = None,
    allow_lossy: bool = False,
    log: EventLog = SILENT,
) -> Handle:
    """Make ``model`` run under the memory plan of ``schedule``, with its state where that says.

    A plan of inference wants the model in evaluation mode, and every call without gradients;
    keys and values that wait on the host are those of the cache that is given to the model, as
    ``generate`` does.

    Train as before; gradients, buffers and random state stay those of the plain model, except
    that compression and units in fewer bits change gradients a little. A plan that keeps
    everything installs nothing.
    Where the schedule says anything about the state, the handle's ``make_optimizer`` has to make
    the optimizer, and weights that wait on the host are read through ``state_dict()``.

    Args:
        model: the module that ``graph`` was traced from.
        graph: its graph.
        schedule: for that graph, on one device.
        hardware: says whether offloading is possible; None takes it as possible.
        allow_lossy: whether the schedule may compress saved tensors.
        log: told what is moved and made again.

    Returns:
        A handle whose ``remove()`` restores the model exactly.

    Raises:
        InvalidInputError: the schedule does not fit the graph, the runtime or the hardware, the
            model lacks a module of the graph or has other weights, or a part of it is compiled or
            runs by a plan.
        MissingExtraError: units compute in eight bits, and torchao is not installed.
    """
    path = wrapped_path(model)
    if path is not None:
        raise InvalidInputError(
            f"module {path!r} of the model runs by a plan already; allowed: one plan at a time, "
            "after handle.remove(), or handle.update()"
        )
    device = _device_of(model)
    installer = _Installer(model, graph, mover_for(device), log)
    runtime = installer.runtime(schedule, hardware, allow_lossy)
    check_weights(model, graph)
    with contextlib.ExitStack() as stack:
        stack.enter_context(reduced_model(model, reduced_modules(graph), graph.forward_only))
        window, _ = schedule.memory.pace_of(0)
        units = schedule.state.host_caches
        caches = caches_on_host(model, graph, units, installer.mover, device, window)
        state = ModelState(model, graph, schedule.state, installer.mover, caches)
        return Handle(installer, schedule, runtime, state, stack.pop_all())


@dataclass(frozen=True)
class _Installer:
    """Makes runtimes of one model, one plan after the other."""

    model: nn.Module
    graph: ModelGraph
    mover: Mover
    log: EventLog

    def runtime(
        self, schedule: Schedule, hardware: Hardware | None, allow_lossy: bool
    ) -> PlanRuntime | None:
        """The runtime of a schedule, not installed yet; None where it changes nothing.

        Raises:
            InvalidInputError: see :func:`apply`.
        """
        check_uncompiled(self.model)
        plan = runtime_plan(self.graph, schedule, allow_lossy)
        state = schedule.state
        on_host = Placement.HOST in (state.optimizer, state.weights)
        to_host = plan.offloads or on_host or bool(state.host_caches)
        if to_host and hardware is not None and not hardware.can_offload:
            raise InvalidInputError(
                f"the schedule uses the host, and hardware {hardware.name!r} has host.pool="
                f"{hardware.host.pool!r} with host.unified={hardware.host.unified}; that needs "
                "host.pool='emulated'"
            )
        if plan.is_empty:
            return None
        device = _device_of(self.model)
        return PlanRuntime(self.model, self.graph, plan, device, self.mover, self.log)


class Planned(Protocol):
    """What a handle reads of a plan."""

    @property
    def schedule(self) -> Schedule:
        """What is to run."""
        ...

    @property
    def problem(self) -> Problem:
        """What it was planned for."""
        ...


class Handle:
    """A plan in effect on a model; also a context manager that removes it at the end."""

    def __init__(
        self,
        installer: _Installer,
        schedule: Schedule,
        runtime: PlanRuntime | None,
        state: ModelState,
        precision: contextlib.ExitStack,
    ) -> None:
        self._installer = installer
        self._mover = installer.mover
        self._schedule = schedule
        self._state = state
        self._precision = precision
        self._removed = False
        self._runtime = runtime
        self._wrappers = self._install()

    def _install(self) -> tuple[Wrapper, ...]:
        if self._runtime is None:
            return ()
        self._runtime.state = self._state
        return tuple(self._runtime.install())

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

    def update(self, plan: Planned) -> None:
        """Let the model run by another plan from its next forward on.

        To be called between two steps. Weights, optimizer and its state stay where they are, so
        the next steps are those that the plain model would make.

        Args:
            plan: for the same model, batch and places of state, on one device; that of
                ``remora.replan`` with its usual scope is one.

        Raises:
            InvalidInputError: it is for another model or batch or puts state elsewhere, or the
                schedule cannot run here; then the present plan stays in effect.
            RuntimeError: the handle was removed, the model is in the middle of a forward, or
                somebody else replaced the ``forward`` of a module since.
        """
        if self._removed:
            raise RuntimeError("the plan was removed from the model; apply the new one instead")
        if self._runtime is not None and self._runtime.is_running:
            raise RuntimeError("the model is in the middle of a forward; update between two steps")
        if plan.schedule.state != self._schedule.state:
            raise InvalidInputError(
                f"the new plan has {plan.schedule.state}, allowed while a plan runs: "
                f"{self._schedule.state}; for another one call remove(), apply it, and make the "
                "optimizer anew"
            )
        if plan.schedule.precision != self._schedule.precision:
            raise InvalidInputError(
                "the new plan computes other units in fewer bits; allowed while a plan runs: "
                f"precision.units={self._schedule.precision.units}"
            )
        problem = plan.problem
        runtime = self._installer.runtime(plan.schedule, problem.hardware, problem.allow_lossy)
        self._uninstall()
        self._schedule, self._runtime = plan.schedule, runtime
        self._wrappers = self._install()

    def _uninstall(self) -> None:
        for wrapper in self._wrappers:
            wrapper.check()
        for wrapper in self._wrappers:
            wrapper.remove()
        self._wrappers = ()

    def remove(self) -> None:
        """Restore the model; a second call does nothing.

        Raises:
            RuntimeError: somebody else replaced the ``forward`` of a module since.
        """
        self._uninstall()
        if not self._removed:
            self._removed = True
            if self._state.passes is not None:
                self._state.passes.close()
            self._state.close()
            self._precision.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


def _device_of(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
