"""Memory that single operators take beyond their results, measured once per signature."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Set as AbstractSet
from typing import Any

import torch

from remora.executor.cpu_memory import quieten_profiler
from remora.executor.replay.operands import (
    UnsupportedArgument,
    find_operator,
    make_storage,
    split_arguments,
    view_of,
    without_dropout,
)
from remora.graph.model_graph import ModelGraph, Op
from remora.graph.signature import op_signature
from remora.hardware.memory import free_memory_bytes

__all__ = ["measure_workspace"]

_MEMORY_SHARE = 0.6
_MARK = "remora.workspace."


def measure_workspace(
    graph: ModelGraph, signatures: AbstractSet[str], device: torch.device
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Run every operator with one of ``signatures`` once and see what it allocates.

    The workspace of an operator is the peak of what it allocates and frees while it runs, less
    the bytes of its results in the trace. On a CPU the allocator's events show it, which also see
    inside operators.

    Args:
        graph: the traced step.
        signatures: which operators to run, see ``graph.signature``.
        device: where to run.

    Returns:
        Bytes by signature, and one sentence per operator that could not run, which is absent.
    """
    ops: dict[str, int] = {}
    for index, op in enumerate(graph.ops):
        if not op.view:
            signature = op_signature(graph, op)
            if signature in signatures:
                ops.setdefault(signature, index)
    notes: list[str] = []
    with torch.no_grad(), torch.random.fork_rng(_cuda_indices(device)):
        run = _run_on_cuda if device.type == "cuda" else _run_on_cpu
        peaks = run(graph, ops, device, notes)
    found = {
        signature: max(0, peak - _result_bytes(graph, ops[signature]))
        for signature, peak in peaks.items()
    }
    return found, tuple(notes)


def _result_bytes(graph: ModelGraph, index: int) -> int:
    """Bytes of the storages that an operator leaves, as the trace has them."""
    storages = {graph.tensors[tensor].storage for tensor in graph.ops[index].outputs}
    created = [graph.storages[s] for s in storages if graph.storages[s].created == index]
    return sum(storage.num_bytes for storage in created)


def _run_on_cpu(
    graph: ModelGraph, ops: dict[str, int], device: torch.device, notes: list[str]
) -> dict[str, int]:
    """Run all operators under one profiler and cut its memory events at the operators' marks."""
    from torch.profiler import ProfilerActivity, profile, record_function

    quieten_profiler()
    signatures = list(ops)
    failed: set[int] = set()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for number, signature in enumerate(signatures):
            op = graph.ops[ops[signature]]
            try:
                function, args, kwargs = _prepare(graph, op, device)
                with record_function(f"{_MARK}{number}"):
                    result = function(*args, **kwargs)
                del result
            except Exception as error:
                failed.add(number)
                notes.append(_note(op, error))
            args, kwargs = [], {}
    found = _peak_by_mark(profiler.profiler.kineto_results.events())
    return {
        signature: found[number]
        for number, signature in enumerate(signatures)
        if number in found and number not in failed
    }


def _peak_by_mark(events: list[Any]) -> dict[int, int]:
    """Return, for every mark, the highest sum of its memory events so far."""
    marks = sorted(
        (event.start_ns(), event.start_ns() + event.duration_ns(), int(event.name()[len(_MARK) :]))
        for event in events
        if event.name().startswith(_MARK)
    )
    memory = sorted(
        (event.start_ns(), order, event.nbytes())
        for order, event in enumerate(events)
        if event.name() == "[memory]"
    )
    starts = [start for start, _, _ in memory]
    peaks = {}
    for start, end, number in marks:
        inside = memory[bisect.bisect_left(starts, start) : bisect.bisect_right(starts, end)]
        levels = list(itertools.accumulate((nbytes for _, _, nbytes in inside), initial=0))
        peaks[number] = max(levels)
    return peaks


def _run_on_cuda(
    graph: ModelGraph, ops: dict[str, int], device: torch.device, notes: list[str]
) -> dict[str, int]:
    """Run every operator twice, since libraries take lasting workspace in the first call."""
    found = {}
    for signature, index in ops.items():
        op = graph.ops[index]
        try:
            function, args, kwargs = _prepare(graph, op, device)
            function(*args, **kwargs)
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            result = function(*args, **kwargs)
            found[signature] = torch.cuda.max_memory_allocated(device) - before
            del result
        except Exception as error:
            notes.append(_note(op, error))
        args, kwargs = [], {}
    return found


def _prepare(
    graph: ModelGraph, op: Op, device: torch.device
) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return the operator and made-up arguments for it."""
    needed = sum(
        graph.storages[storage].num_bytes
        for storage in {graph.tensors[tensor].storage for tensor in (*op.inputs, *op.outputs)}
    )
    if needed > _MEMORY_SHARE * free_memory_bytes(device.type):
        raise UnsupportedArgument(f"its tensors take {needed} bytes, more than is free")
    args, kwargs, holes = split_arguments(op.args, op.kwargs, device)
    bases: dict[int, torch.Tensor] = {}
    for container, key, tensor in holes:
        view = graph.tensors[tensor]
        if view.storage not in bases:
            storage = graph.storages[view.storage]
            bases[view.storage] = make_storage(storage.num_bytes, view.dtype, storage.role, device)
        container[key] = view_of(bases[view.storage], view)
    function = find_operator(op.name)
    without_dropout(function, args, kwargs)
    return function, args, kwargs


def _note(op: Op, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"the workspace of {op.name} is not measured: {type(error).__name__}: {reason}"


def _cuda_indices(device: torch.device) -> list[int]:
    return [torch.cuda.current_device()] if device.type == "cuda" else []
