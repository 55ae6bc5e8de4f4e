"""Time of one optimizer step, on tensors with the shapes of the model's parameters."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from remora.graph.model_graph import PARAMETER, ModelGraph
from remora.hardware.memory import free_memory_bytes
from remora.schedule.problem import OPTIMIZERS

__all__ = ["measure_optimizer"]

# Parameter, gradient and two states of one size each have to fit.
_LARGEST_BYTES = 1 << 31
_MEMORY_SHARE = 0.6
_EVICTED_BYTES = 1 << 26

_FACTORIES: dict[str, Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4),
    "adamw_master": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-4),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
    "sgd_momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-4, momentum=0.9),
}


def measure_optimizer(
    graph: ModelGraph, name: str, device: torch.device, repetitions: int = 3
) -> float:
    """Return seconds of ``step`` and ``zero_grad`` in the steady state.

    Where all parameters with gradients and states would take too much memory, a part of them
    runs and the time is scaled by bytes. Master weights are stepped in float32 and converted.

    Args:
        graph: the traced step; its parameters give shapes and dtypes.
        name: a key of ``OPTIMIZERS``.
        device: where to run.
        repetitions: steps after one warm-up; the median is kept.
    """
    if not OPTIMIZERS[name].counted:
        return 0.0
    views = _parameter_views(graph)
    total_bytes = sum(num_bytes for _, _, num_bytes in views)
    if not total_bytes:
        return 0.0
    master = OPTIMIZERS[name].master_weights
    copies = 2 + OPTIMIZERS[name].state_per_parameter
    # Master weights, their gradients and states are up to twice as long as what they belong to.
    copies = 2 * copies + 2 if master else copies
    allowed = min(_LARGEST_BYTES, int(_MEMORY_SHARE * free_memory_bytes(device.type)))
    chosen, chosen_bytes = _prefix(views, allowed // copies)
    parameters = [
        torch.full(shape, 0.02, dtype=getattr(torch, dtype), device=device, requires_grad=True)
        for shape, dtype in chosen
    ]
    weights = parameters
    if master:
        weights = [p.detach().float().requires_grad_() for p in parameters]
    optimizer = _FACTORIES[name](weights)
    times = [_step(optimizer, parameters, weights, device) for _ in range(repetitions + 1)]
    return statistics.median(times[1:]) * total_bytes / chosen_bytes


def _parameter_views(graph: ModelGraph) -> list[tuple[tuple[int, ...], str, int]]:
    """Shape, dtype and bytes of every parameter that gets a gradient, smallest first."""
    trained = {s.name for s in graph.storages if s.role == "gradient"}
    views: dict[int, tuple[tuple[int, ...], str, int]] = {}
    for view in graph.tensors:
        storage = graph.storages[view.storage]
        if storage.role == PARAMETER and storage.name in trained:
            size = getattr(torch, view.dtype).itemsize
            shape = (storage.num_bytes // size,)
            views.setdefault(view.storage, (shape, view.dtype, storage.num_bytes))
    return sorted(views.values(), key=lambda item: item[2])


def _prefix(
    views: list[tuple[tuple[int, ...], str, int]], allowed_bytes: int
) -> tuple[list[tuple[tuple[int, ...], str]], int]:
    """Return parameters that fit into ``allowed_bytes`` together, at least one, and their bytes."""
    chosen: list[tuple[tuple[int, ...], str]] = []
    taken = 0
    for shape, dtype, num_bytes in views:
        if chosen and taken + num_bytes > allowed_bytes:
            break
        chosen.append((shape, dtype))
        taken += num_bytes
    return chosen, taken


def _step(
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.Tensor],
    weights: list[torch.Tensor],
    device: torch.device,
) -> float:
    """Seconds of one step; ``weights`` are the parameters or, elsewhere, their master weights."""
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3, requires_grad=False)
    # A step follows a whole backward, so neither states nor parameters are in the caches.
    torch.ones(_EVICTED_BYTES // 4, device=device)
    _wait(device)
    start = time.perf_counter()
    if weights is not parameters:
        for parameter, weight in zip(parameters, weights, strict=True):
            weight.grad = None if parameter.grad is None else parameter.grad.to(weight.dtype)
            parameter.grad = None
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if weights is not parameters:
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights, strict=True):
                parameter.copy_(weight)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
