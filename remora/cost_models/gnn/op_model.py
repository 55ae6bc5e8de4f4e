"""Operator times that a small ensemble of graph networks has learned from profiled runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn.op_classes import CLASSES
from remora.cost_models.gnn.op_constants import HostConstants, fit_constants
from remora.cost_models.gnn.op_context import storage_ends
from remora.cost_models.gnn.op_costs import predicted_costs
from remora.cost_models.gnn.op_examples import unit_examples
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures, encode_unit
from remora.cost_models.gnn.op_network import (
    UNKNOWN,
    NetworkSize,
    OpNetwork,
    as_batch,
    as_data,
)
from remora.cost_models.gnn.op_threads import one_thread
from remora.cost_models.gnn.op_times import OpTimes
from remora.cost_models.gnn.op_training import OpTrainingConfig, Watch, train_members
from remora.cost_models.gnn.op_workspace import WorkspaceNetwork, fit_workspace
from remora.cost_models.roofline import roofline_op_time_s
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.model_graph import ModelGraph, Unit
from remora.hardware.hardware import Hardware
from remora.schedule.problem import CostTable

__all__ = ["OpTimeModel", "OpTimes", "OpTrainingConfig", "fit_op_model"]


@dataclass(frozen=True)
class OpTimeModel:
    """A trained ensemble with what it needs to predict.

    Attributes:
        members: networks; predictions are means of their logarithms.
        workspace: network for memory beyond the results.
        names: base names seen in training; the place is the row of the embedding, from 1.
        constants: of the host, by type of device.
    """

    members: tuple[OpNetwork, ...]
    workspace: WorkspaceNetwork
    names: tuple[str, ...]
    constants: Mapping[str, HostConstants]

    def op_times_s(self, graph: ModelGraph, hardware: Hardware) -> OpTimes:
        """Predict all operators of a graph; every kind of unit is encoded once.

        Operators that were not seen in training take the time of the roofline, and everything
        does on a type of device that was not. Views cost the same whatever their name.

        Args:
            graph: the traced step.
            hardware: rates of the device.
        """
        num_ops = len(graph.ops)
        times_s = np.array([roofline_op_time_s(graph, op, hardware) for op in graph.ops])
        spread, workspace = np.zeros(num_ops), np.zeros(num_ops, dtype=np.int64)
        if hardware.device_type not in self.constants:
            trained = ", ".join(self.constants)
            note = f"no run on {hardware.device_type} was seen (only on {trained}): roofline"
            return OpTimes(times_s, spread, workspace, (note,))
        first = {unit.kind: unit for unit in reversed(graph.units)}
        ends = storage_ends(graph)
        features = {kind: encode_unit(graph, u, ends, hardware) for kind, u in first.items()}
        learned = dict(zip(features, self._predict(list(features.values())), strict=True))
        for unit in graph.units:
            places = _places(unit)
            kind = learned[unit.kind]
            times_s[places[kind.known]] = kind.times_s[kind.known]
            spread[places[kind.known]] = kind.spread[kind.known]
            workspace[places[kind.known]] = kind.workspace_bytes[kind.known]
        return OpTimes(times_s, spread, workspace, self._notes(list(features.values())))

    def costs(self, graph: ModelGraph, hardware: Hardware, optimizer: str) -> CostTable:
        """Return predicted times with the host's overheads, as a table for the simulator.

        Args:
            graph: the traced step.
            hardware: rates of the device.
            optimizer: name of the optimizer, a key of ``OPTIMIZERS``.
        """
        told = self.op_times_s(graph, hardware)
        return predicted_costs(
            graph,
            hardware,
            optimizer,
            told.times_s.tolist(),
            told.workspace_bytes.tolist(),
            self.constants.get(hardware.device_type),
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all tensors by name, and everything else as plain values."""
        networks = {f"member{i}": network for i, network in enumerate(self.members)}
        tensors = {
            f"{name}.{key}": tensor.detach().clone().contiguous()
            for name, network in {**networks, "workspace": self.workspace}.items()
            for key, tensor in network.state_dict().items()
        }
        values = {
            "features": list(OP_FEATURES),
            "names": list(self.names),
            "members": len(self.members),
            "size": self.members[0].size.as_dict(),
            "constants": {name: c.as_dict() for name, c in self.constants.items()},
        }
        return tensors, values

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> OpTimeModel:
        """Build the model that :meth:`state` described.

        Raises:
            FileFormatError: a tensor or a value is missing, or they are of another version.
        """
        try:
            if values["features"] != list(OP_FEATURES):
                raise FileFormatError("the operator model was trained on other features")
            names = tuple(values["names"])
            blank = torch.zeros(len(OP_FEATURES))
            size = NetworkSize(**values["size"])
            members = []
            for i in range(values["members"]):
                network = OpNetwork(len(names) + 1, size, blank, blank)
                network.load_state_dict(_part(tensors, f"member{i}."))
                members.append(network.eval())
            workspace = WorkspaceNetwork(len(names) + 1, blank, blank)
            workspace.load_state_dict(_part(tensors, "workspace."))
            constants = {n: HostConstants.from_dict(c) for n, c in values["constants"].items()}
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise FileFormatError(f"the operator model cannot be read: {reason}") from error
        return cls(tuple(members), workspace.eval(), names, constants)

    def _predict(self, features: Sequence[UnitFeatures]) -> list[_Learned]:
        ids = _name_ids(self.names)
        data = [as_data(unit, ids) for unit in features]
        batch = as_batch(data)
        with torch.no_grad():
            log_s = torch.stack([network(batch) for network in self.members]).double()  # [M, N]
        times_s = log_s.mean(dim=0).exp().numpy()
        spread = log_s.std(dim=0, correction=0).numpy()
        found, start = [], 0
        for unit, item in zip(features, data, strict=True):
            end = start + len(unit.names)
            found.append(
                _Learned(
                    times_s=times_s[start:end],
                    spread=spread[start:end],
                    workspace_bytes=np.rint(self.workspace.workspace_bytes(unit, item.name)).astype(
                        np.int64
                    ),
                    known=_known(unit, self.names),
                )
            )
            start = end
        return found

    def _notes(self, features: Sequence[UnitFeatures]) -> tuple[str, ...]:
        unseen = {
            unit.names[i]
            for unit in features
            for i in np.flatnonzero(~_known(unit, self.names)).tolist()
        }
        return tuple(f"{name} was never measured: roofline" for name in sorted(unseen))


def fit_op_model(
    runs: Sequence[ProfiledRun],
    config: OpTrainingConfig,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
) -> OpTimeModel:
    """Train on profiled runs; the same runs and configuration give the same model.

    Args:
        runs: with measured units.
        config: how to train.
        watch: is told the loss after every epoch.
        checkpoint: file from which a training that was interrupted goes on.

    Raises:
        InvalidInputError: no run has a measured unit.
        FileFormatError: the checkpoint is broken or belongs to another training.
    """
    examples = unit_examples(runs)
    if not examples:
        raise InvalidInputError(f"runs has {len(runs)} runs, allowed: some with measured units")
    names = tuple(sorted({name for example in examples for name in example.features.names}))
    ids = _name_ids(names)
    with one_thread():
        members = train_members(examples, ids, config, watch, checkpoint)
        workspace = fit_workspace(examples, ids, config.seed)
    return OpTimeModel(tuple(members), workspace, names, fit_constants(runs))


@dataclass(frozen=True, slots=True)
class _Learned:
    """Predictions for the operators of one kind of unit; ``known``: those that hold."""

    times_s: NDArray[np.float64]
    spread: NDArray[np.float64]
    workspace_bytes: NDArray[np.int64]
    known: NDArray[np.bool_]


def _known(features: UnitFeatures, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which operators training has seen.  # [N]."""
    seen = frozenset(names)
    by_name = np.array([name in seen for name in features.names], dtype=np.bool_)
    return np.asarray(by_name | (features.classes == CLASSES.index("view")))


def _places(unit: Unit) -> NDArray[np.int64]:
    return np.array([*range(*unit.forward), *range(*unit.backward)], dtype=np.int64)


def _name_ids(names: Sequence[str]) -> dict[str, int]:
    return {name: row for row, name in enumerate(names, start=UNKNOWN + 1)}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
