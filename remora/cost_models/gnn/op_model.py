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
from remora.cost_models.gnn.op_constants import HostConstants, fit_constants
from remora.cost_models.gnn.op_costs import predicted_costs
from remora.cost_models.gnn.op_encoder import UnitEncoder
from remora.cost_models.gnn.op_examples import unit_examples
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures
from remora.cost_models.gnn.op_network import NetworkSize, OpNetwork, as_batch, as_data
from remora.cost_models.gnn.op_places import known_ops, name_ids, unit_places
from remora.cost_models.gnn.op_threads import one_thread
from remora.cost_models.gnn.op_times import OpTimes
from remora.cost_models.gnn.op_training import OpTrainingConfig, Watch, train_members
from remora.cost_models.gnn.op_workspace import (
    WorkspaceNetwork,
    fit_workspace,
    graph_workspace_bytes,
)
from remora.cost_models.roofline import roofline_op_time_s
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.model_graph import ModelGraph
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

    def op_times_s(
        self, graph: ModelGraph, hardware: Hardware, encoder: UnitEncoder | None = None
    ) -> OpTimes:
        """Predict all operators of a graph; every kind of unit is encoded once.

        Operators that were not seen in training take the time of the roofline, and everything
        does on a type of device that was not. Views cost the same whatever their name.

        Args:
            graph: the traced step.
            hardware: rates of the device.
            encoder: remembers units that were encoded before; None encodes all of them.
        """
        num_ops = len(graph.ops)
        times_s = np.array([roofline_op_time_s(graph, op, hardware) for op in graph.ops])
        spread = np.zeros(num_ops)
        if hardware.device_type not in self.constants:
            trained = ", ".join(self.constants)
            note = f"no run on {hardware.device_type} was seen (only on {trained}): roofline"
            return OpTimes(times_s, spread, np.zeros(num_ops, dtype=np.int64), (note,))
        features = (encoder or UnitEncoder()).kinds(graph, hardware)
        learned = dict(zip(features, self._predict(list(features.values())), strict=True))
        for unit in graph.units:
            places = unit_places(unit)
            kind = learned[unit.kind]
            times_s[places[kind.known]] = kind.times_s[kind.known]
            spread[places[kind.known]] = kind.spread[kind.known]
        workspace = graph_workspace_bytes(self.workspace, self.names, graph, features)
        return OpTimes(times_s, spread, workspace, self._notes(list(features.values())))

    def costs(
        self,
        graph: ModelGraph,
        hardware: Hardware,
        optimizer: str,
        encoder: UnitEncoder | None = None,
    ) -> CostTable:
        """Return predicted times with the host's overheads, as a table for the simulator.

        Args:
            graph: the traced step.
            hardware: rates of the device.
            optimizer: name of the optimizer, a key of ``OPTIMIZERS``.
            encoder: as in :meth:`op_times_s`.
        """
        told = self.op_times_s(graph, hardware, encoder)
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
        ids = name_ids(self.names)
        data = [as_data(unit, ids) for unit in features]
        batch = as_batch(data)
        with torch.no_grad():
            log_s = torch.stack([network(batch) for network in self.members]).double()  # [M, N]
        times_s = log_s.mean(dim=0).exp().numpy()
        spread = log_s.std(dim=0, correction=0).numpy()
        found, start = [], 0
        for unit in features:
            end = start + len(unit.names)
            found.append(
                _Learned(
                    times_s=times_s[start:end],
                    spread=spread[start:end],
                    known=known_ops(unit, self.names),
                )
            )
            start = end
        return found

    def _notes(self, features: Sequence[UnitFeatures]) -> tuple[str, ...]:
        unseen = {
            unit.names[i]
            for unit in features
            for i in np.flatnonzero(~known_ops(unit, self.names)).tolist()
        }
        return tuple(f"{name} was never measured: roofline" for name in sorted(unseen))


def fit_op_model(
    runs: Sequence[ProfiledRun],
    config: OpTrainingConfig,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
    encoder: UnitEncoder | None = None,
) -> OpTimeModel:
    """Train on profiled runs; the same runs and configuration give the same model.

    Args:
        runs: with measured units.
        config: how to train.
        watch: is told the loss after every epoch.
        checkpoint: file from which a training that was interrupted goes on.
        encoder: remembers units that were encoded before; None encodes all of them.

    Raises:
        InvalidInputError: no run has a measured unit.
        FileFormatError: the checkpoint is broken or belongs to another training.
    """
    examples = unit_examples(runs, encoder)
    if not examples:
        raise InvalidInputError(f"runs has {len(runs)} runs, allowed: some with measured units")
    names = tuple(sorted({name for example in examples for name in example.features.names}))
    ids = name_ids(names)
    with one_thread():
        members = train_members(examples, ids, config, watch, checkpoint)
        workspace = fit_workspace(examples, names, config.seed)
    return OpTimeModel(tuple(members), workspace, names, fit_constants(runs))


@dataclass(frozen=True, slots=True)
class _Learned:
    """Predictions for the operators of one kind of unit; ``known``: those that hold."""

    times_s: NDArray[np.float64]
    spread: NDArray[np.float64]
    known: NDArray[np.bool_]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
