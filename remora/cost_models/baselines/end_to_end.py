"""Baseline: a graph network that predicts step time and peak without simulator or operator times.

It sees the same unit graph with what a schedule makes of every unit, but FLOPs and bytes instead
of seconds. The step is a sum over the units and so is the peak, so that larger models are within
its reach.

Legend: N units of all steps together, F features of a unit, H width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch, Data  # type: ignore[import-untyped]
from torch_geometric.nn import GraphConv  # type: ignore[import-untyped]

from remora.cost_models.gnn.step_examples import StepExample
from remora.cost_models.gnn.step_features import NODE_FEATURES, PLAIN_FEATURES
from remora.cost_models.gnn.step_model import Corrected
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware

__all__ = ["EndToEnd", "EndToEndConfig", "fit_end_to_end"]

_PLAIN = [NODE_FEATURES.index(name) for name in PLAIN_FEATURES]
_RAW = 7
_CLAMP = 4.0


@dataclass(frozen=True)
class EndToEndConfig:
    """Values of its training.

    Attributes:
        seed: of weights and batches.
        epochs: passes over the steps.
        learning_rate: at the start; it falls to 0 along a cosine.
        hidden: width H.
        layers: rounds of message passing.
        batch_size: steps of one gradient step.
    """

    seed: int = 0
    epochs: int = 60
    learning_rate: float = 5e-3
    hidden: int = 32
    layers: int = 3
    batch_size: int = 128


class _Network(nn.Module):
    """Logarithms of seconds and bytes."""

    mean: Tensor
    std: Tensor
    level: Tensor

    def __init__(self, config: EndToEndConfig) -> None:
        super().__init__()
        size = _RAW + len(_PLAIN)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("level", torch.zeros(2))
        self.into = nn.Linear(size, config.hidden)
        self.layers = nn.ModuleList(
            GraphConv(config.hidden, config.hidden, aggr="mean") for _ in range(config.layers)
        )
        self.out = nn.Linear(config.hidden, 2)

    def forward(self, batch: Data) -> Tensor:
        """Sum over units what each takes.  # [n, 2]."""
        scaled = ((batch.x - self.mean) / self.std).clamp(-_CLAMP, _CLAMP)
        x = torch.relu(self.into(scaled))
        for layer in self.layers:
            x = x + torch.relu(layer(x, batch.edge_index))
        amounts = torch.exp(self.out(x).clamp(-15, 15))  # [N, 2]
        sums = amounts.new_zeros(batch.num_graphs, 2).index_add(0, batch.batch, amounts)
        return torch.log(sums) + self.level


class EndToEnd:
    """Predicts steps from their graph alone.

    Args:
        network: trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def predict(self, examples: Sequence[StepExample]) -> Corrected:
        """Predict steps; the bound is the peak itself."""
        with torch.no_grad():
            logs = self._network(Batch.from_data_list([_data(e) for e in examples]))
        values = np.exp(logs.numpy().astype(np.float64))
        peaks = np.rint(values[:, 1]).astype(np.int64)
        zeros = np.zeros(len(examples))
        return Corrected(values[:, 0], zeros, peaks, peaks, zeros)


def fit_end_to_end(
    examples: Sequence[StepExample], config: EndToEndConfig | None = None
) -> EndToEnd:
    """Train the network.

    Args:
        examples: measured steps.
        config: values of the training.
    """
    config = config or EndToEndConfig()
    data = [_data(example) for example in examples]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = _Network(config)
    nodes = torch.cat([one.x for one in data])
    network.mean.copy_(nodes.mean(0))
    network.std.copy_(nodes.std(0, correction=0).clamp_min(0.05))
    logs = torch.cat([one.y for one in data])
    network.level.copy_(logs.mean(0) - math.log(len(nodes) / len(data)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    batches = math.ceil(len(data) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * batches)
    draw = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order = draw.permutation(len(data))
        for number in range(batches):
            batch = Batch.from_data_list([data[place] for place in order[number::batches]])
            loss = torch.nn.functional.huber_loss(network(batch), batch.y, delta=0.2)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return EndToEnd(network.eval())


def _data(example: StepExample) -> Data:
    """One step as a graph of units."""
    encoded, problem = example.encoded, example.problem
    raw = _raw_features(problem.graph, problem.hardware)
    plain = encoded.nodes[:, 0, :][:, _PLAIN]
    target = [math.log(example.row.step_time_s), math.log(example.row.peak_memory_bytes)]
    return Data(
        x=torch.from_numpy(np.concatenate([raw, plain], axis=1).astype(np.float32)),
        edge_index=torch.from_numpy(encoded.edges),
        y=torch.tensor([target], dtype=torch.float32),
    )


def _raw_features(graph: ModelGraph, hardware: Hardware) -> NDArray[np.float64]:
    """Logs of FLOPs and traffic of every unit both ways, and of the device's rates.  # [U, 7]."""
    device = (
        math.log(hardware.flops_per_s["float32"]),
        math.log(hardware.memory_bandwidth_bytes_per_s),
        math.log(hardware.kernel_launch_s),
    )
    rows = []
    for unit in graph.units:
        sums = []
        for span in (unit.forward, unit.backward):
            ops = graph.ops[slice(*span)]
            sums.append(math.log1p(sum(op.flops for op in ops)))
            sums.append(math.log1p(sum(op.bytes_read + op.bytes_written for op in ops)))
        rows.append((*sums, *device))
    return np.array(rows)
