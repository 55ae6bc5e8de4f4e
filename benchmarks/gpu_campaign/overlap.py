"""How much of the host copies is hidden behind computation.

The step with everything offloaded takes longer than the step that keeps everything by what of the
copies shows; the copies alone say how much there was to hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_campaign.measuring import free_cached, stopwatch
from benchmarks.gpu_campaign.plans import plan_named
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject
from remora.schedule.recompute import effective_actions
from remora.schedule.schedule import Action, Schedule

__all__ = ["overlap"]

PACES = ((1, 1), (2, 1), (2, 2), (4, 4))
"""Offload window and prefetch distance."""

_REPETITIONS = 3
_SECTION = "overlap"


def overlap(subject: Subject) -> Items:
    """Measure the step that keeps all, the copies alone, and both together at several paces."""
    yield Item("keep all", partial(_keep_all, subject))
    yield Item("copies alone", partial(_copies_alone, subject))
    for window, distance in PACES:
        label = f"window {window}, distance {distance}"
        yield Item(label, partial(_together, subject, label, window, distance))


def _keep_all(subject: Subject) -> Mapping[str, Any]:
    return subject.run_schedule(_SECTION, "keep all", plan_named(subject, "keep_all"))


def _copies_alone(subject: Subject) -> Mapping[str, Any]:
    sizes = copied_bytes(subject, plan_named(subject, "offload_all"))
    if not sizes:
        raise NotAsked("nothing can be offloaded")
    down_s, up_s = copy_times_s(sizes, subject.device)
    return {
        "copies": len(sizes),
        "bytes_each_way": sum(sizes),
        "down_s": down_s,
        "up_s": up_s,
        "copies_s": down_s + up_s,
    }


def _together(subject: Subject, label: str, window: int, distance: int) -> Mapping[str, Any]:
    kept, copies = _figures(subject, "keep all"), _figures(subject, "copies alone")
    plan = plan_named(subject, "offload_all")
    memory = replace(plan.memory, offload_window=window, prefetch_distance=distance)
    figures = subject.run_schedule(_SECTION, label, replace(plan, memory=memory))
    shown_s = figures["step_time_s"] - kept["step_time_s"]
    return figures | {"shown_s": shown_s, "hidden_share": 1 - shown_s / copies["copies_s"]}


def copied_bytes(subject: Subject, schedule: Schedule) -> list[int]:
    """Bytes of every copy to the host that a schedule without groups makes in one step."""
    graph = subject.graph
    return [
        graph.storages[storage].num_bytes
        for unit in graph.units
        for storage, action in effective_actions(
            graph, unit, schedule.memory.options[unit.index]
        ).items()
        if action is Action.OFFLOAD
    ]


def copy_times_s(sizes: Sequence[int], device: torch.device) -> tuple[float, float]:
    """Least seconds of copying blocks of these sizes to the host and back, one after the other."""
    free_cached(device)
    inside = torch.empty(max(sizes), dtype=torch.uint8, device=device)  # [largest]
    pinned = device.type == "cuda"
    outside = torch.empty(max(sizes), dtype=torch.uint8, pin_memory=pinned)  # [largest]

    def copy_all(target: torch.Tensor, source: torch.Tensor) -> None:
        for size in sizes:
            target[:size].copy_(source[:size], non_blocking=True)

    def least_s(target: torch.Tensor, source: torch.Tensor) -> float:
        copy_all(target, source)
        runs = [stopwatch(partial(copy_all, target, source), device) for _ in range(_REPETITIONS)]
        return min(runs)

    return least_s(outside, inside), least_s(inside, outside)


def _figures(subject: Subject, label: str) -> Mapping[str, Any]:
    record = subject.known.get((_SECTION, label))
    if record is None or record.status != "ok":
        raise NotAsked(f"there is no figure for {label!r} to compare with")
    return record.figures
