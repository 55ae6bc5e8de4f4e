"""A planning problem as plain values and back, so that a loaded plan can be simulated again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from remora.graph.serialize import graph_from_values, graph_to_values
from remora.hardware.hardware import Hardware, HardwareState
from remora.hardware.load import hardware_from_mapping
from remora.schedule.inference import InferenceSpec
from remora.schedule.problem import OPTIMIZERS, CostTable, Problem

__all__ = [
    "inference_from_values",
    "inference_values",
    "problem_from_values",
    "problem_to_values",
]


def problem_to_values(problem: Problem) -> dict[str, Any]:
    """Return the values of a problem, ready for JSON."""
    return {
        "budget_bytes": problem.budget_bytes,
        "world_size": problem.world_size,
        "micro_batches": problem.micro_batches,
        "allow_lossy": problem.allow_lossy,
        "state_on_device": problem.state_on_device,
        "replicas": problem.replicas,
        "inference": inference_values(problem.inference),
        "optimizer": problem.optimizer.name,
        "hardware": _hardware_values(problem.hardware),
        "parts": [
            {
                "micro_batches": count,
                "graph": graph_to_values(graph),
                "costs": asdict(problem.costs[count]),
            }
            for count, graph in problem.graphs.items()
        ],
    }


def problem_from_values(values: Mapping[str, Any]) -> Problem:
    """Read what :func:`problem_to_values` wrote.

    Raises:
        FileFormatError, KeyError, TypeError, UsageError: a field is missing or garbled.
    """
    parts = values["parts"]
    return Problem(
        graphs={p["micro_batches"]: graph_from_values(p["graph"]) for p in parts},
        costs={p["micro_batches"]: _costs(p["costs"]) for p in parts},
        hardware=_hardware(values["hardware"]),
        optimizer=OPTIMIZERS[values["optimizer"]],
        budget_bytes=int(values["budget_bytes"]),
        world_size=int(values["world_size"]),
        micro_batches=values["micro_batches"],
        # Files of earlier versions do not have these.
        allow_lossy=bool(values.get("allow_lossy", False)),
        state_on_device=bool(values.get("state_on_device", False)),
        replicas=values.get("replicas"),
        inference=inference_from_values(values.get("inference")),
    )


def inference_values(spec: InferenceSpec | None) -> dict[str, Any] | None:
    """Return the values of tokens and cache; None for training."""
    return None if spec is None else asdict(spec)


def inference_from_values(values: Mapping[str, Any] | None) -> InferenceSpec | None:
    """Read what :func:`inference_values` wrote."""
    if values is None:
        return None
    return InferenceSpec(**{**values, "cache_bytes": tuple(values["cache_bytes"])})


def _hardware_values(hardware: Hardware) -> dict[str, Any]:
    return asdict(replace(hardware, flops_per_s=dict(hardware.flops_per_s)))


def _hardware(values: Mapping[str, Any]) -> Hardware:
    state = values["state"]
    record = hardware_from_mapping({k: v for k, v in values.items() if k != "state"})
    return replace(record, state=None if state is None else HardwareState(**state))


def _costs(values: Mapping[str, Any]) -> CostTable:
    lists = {k: tuple(values[k]) for k in ("op_time_s", "op_workspace_bytes")}
    return CostTable(**{**values, **lists})
