"""What operator networks are trained to lessen: errors of operators, phases and whole units.

Legend: N operators of a batch, U units of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torch_geometric.data import Data  # type: ignore[import-untyped]
from torch_geometric.utils import scatter  # type: ignore[import-untyped]

from remora.cost_models.gnn.op_examples import UnitExample
from remora.cost_models.gnn.op_network import as_data

__all__ = ["as_target_data", "unit_loss"]

_OP_ERROR = 0.3
_UNIT_ERROR = 0.2
"""Logarithmic errors from which on they count linearly."""


def as_target_data(example: UnitExample, name_ids: dict[str, int]) -> Data:
    """Return a unit as a graph with measured times.

    An operator weighs half as its share of the unit's time and half as every other one.

    Args:
        example: the measured unit.
        name_ids: row of the embedding by base name.
    """
    data = as_data(example.features, name_ids)
    times_s = torch.tensor(example.steady_s)
    measured = torch.isfinite(times_s)
    share = torch.where(measured, times_s, 0.0) / times_s[measured].sum()
    data.measured = measured
    data.log_s = torch.where(measured, times_s, 1.0).log().float()
    data.weight = torch.where(measured, 0.5 * share + 0.5 / measured.sum(), 0.0).float()
    data.phase = torch.tensor(example.features.backward).long()
    return data


def unit_loss(log_s: Tensor, batch: Any, unit_weight: float) -> Tensor:
    """Return the mean loss of the units of a batch.

    Args:
        log_s: predicted logarithms.  # [N]
        batch: of graphs of :func:`as_target_data`.
        unit_weight: of sums over phases and units, against operators.
    """
    units = batch.num_graphs
    op_loss = (_huber(log_s - batch.log_s, _OP_ERROR) * batch.weight).sum() / units
    phase = batch.batch * 2 + batch.phase  # [N]
    told_s = _sums(log_s, batch.measured, phase, 2 * units)  # [2 U]
    true_s = _sums(batch.log_s, batch.measured, phase, 2 * units)  # [2 U]
    there = true_s > 0
    phases = _huber((told_s[there] / true_s[there]).log(), _UNIT_ERROR).mean()
    whole = told_s.view(units, 2).sum(dim=1) / true_s.view(units, 2).sum(dim=1)
    loss: Tensor = op_loss + unit_weight * (_huber(whole.log(), _UNIT_ERROR).mean() + 0.5 * phases)
    return loss


def _sums(log_s: Tensor, measured: Tensor, index: Tensor, size: int) -> Tensor:
    seconds = torch.where(measured, log_s.exp(), 0.0)
    sums: Tensor = scatter(seconds, index, dim=0, dim_size=size, reduce="sum")
    return sums


def _huber(error: Tensor, delta: float) -> Tensor:
    loss: Tensor = huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    return loss / delta
