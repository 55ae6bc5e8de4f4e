"""Training of the operator networks: an ensemble, each member on its own draw of the units."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data  # type: ignore[import-untyped]

from remora.cost_models.gnn.op_checkpoint import read_checkpoint, write_checkpoint
from remora.cost_models.gnn.op_examples import UnitExample
from remora.cost_models.gnn.op_loss import as_target_data, unit_loss
from remora.cost_models.gnn.op_network import NetworkSize, OpNetwork, as_batch
from remora.cost_models.gnn.op_places import UNKNOWN
from remora.cost_models.gnn.op_threads import one_thread
from remora.errors import InvalidInputError

__all__ = ["OpTrainingConfig", "Watch", "train_members"]

Watch = Callable[[Mapping[str, float], int], None]
"""Is told metrics and the number of the step, for curves."""

_WARM_UP = 0.1
_DRAWN = 0.9
"""Share of the units that a member of an ensemble learns from."""


@dataclass(frozen=True, slots=True)
class OpTrainingConfig:
    """How the operator networks are trained.

    Attributes:
        seed: of weights, draws of units and hidden names.
        members: networks of the ensemble.
        epochs: passes of every member over its units.
        batch_units: units of one step.
        learning_rate: largest of the one cycle.
        weight_decay: of AdamW.
        width: features of an operator inside a network.
        layers: rounds of message passing.
        unknown_share: of names that are hidden in every step, so that unseen ones are met.
        unit_weight: of the errors of phases and whole units, against those of operators.
    """

    seed: int = 0
    members: int = 4
    epochs: int = 25
    batch_units: int = 48
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    width: int = 64
    layers: int = 2
    unknown_share: float = 0.05
    unit_weight: float = 0.2

    def __post_init__(self) -> None:
        for name in ("members", "epochs", "batch_units", "width"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, allowed: 1 or more")
        if not 0.0 <= self.unknown_share < 1.0:
            raise InvalidInputError(
                f"unknown_share is {self.unknown_share}, allowed: from 0 to below 1"
            )


def train_members(
    examples: Sequence[UnitExample],
    name_ids: dict[str, int],
    config: OpTrainingConfig,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
) -> list[OpNetwork]:
    """Train all members side by side, one thread each; the same on every run.

    Args:
        examples: at least one.
        name_ids: row of the embedding by base name.
        config: how.
        watch: is told the mean loss after every epoch.
        checkpoint: file that is written after every epoch and from which training goes on; the
            result is the same, bit by bit, as without an interruption.

    Raises:
        FileFormatError: the checkpoint is broken or belongs to another training.
    """
    data = [as_target_data(example, name_ids) for example in examples]
    members = _new_members(data, name_ids, config)
    identity = _identity(data, config)
    first = 0
    if checkpoint is not None and checkpoint.exists():
        first, states = read_checkpoint(checkpoint, identity)
        for member, state in zip(members, states, strict=True):
            member.load_state(state)
    with one_thread(), ThreadPoolExecutor(min(config.members, os.cpu_count() or 1)) as pool:
        for epoch in range(first, config.epochs):
            losses = list(pool.map(lambda member, e=epoch: member.epoch(e), members))
            if watch is not None:
                watch({"op_loss": sum(losses) / len(losses)}, epoch)
            if checkpoint is not None:
                states = [member.state() for member in members]
                write_checkpoint(checkpoint, identity, epoch + 1, states)
    return [member.network.eval() for member in members]


class _Member:
    """One network in training; nothing of it is shared with another."""

    def __init__(
        self, number: int, network: OpNetwork, data: list[Data], config: OpTrainingConfig
    ) -> None:
        self.number = number
        self.network = network
        self.data = data
        self.config = config
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def epoch(self, epoch: int) -> float:
        """Learn once from every unit and return the mean loss."""
        config = self.config
        generator = _generator(config.seed, self.number, epoch)
        order = torch.randperm(len(self.data), generator=generator).tolist()
        starts = range(0, len(order), config.batch_units)
        total = 0.0
        for number, start in enumerate(starts):
            progress = (epoch + number / len(starts)) / config.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * _one_cycle(progress)
            chosen = [self.data[i] for i in order[start : start + config.batch_units]]
            total += self._step(chosen, generator)
        return total / len(starts)

    def _step(self, chosen: list[Data], generator: torch.Generator) -> float:
        batch = as_batch(chosen)
        hidden = torch.rand(len(batch.name), generator=generator) < self.config.unknown_share
        batch.name = batch.name.masked_fill(hidden, UNKNOWN)
        loss = unit_loss(self.network(batch), batch, self.config.unit_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def state(self) -> dict[str, Any]:
        """Return what has changed since the start."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _new_members(
    data: Sequence[Data], name_ids: Mapping[str, int], config: OpTrainingConfig
) -> list[_Member]:
    mean, scale = _normalisation(data)
    size = NetworkSize(config.width, config.layers)
    members = []
    for number in range(config.members):
        with torch.random.fork_rng([]):
            torch.manual_seed(_seed(config.seed, number))
            network = OpNetwork(max(name_ids.values()) + 1, size, mean, scale)
        members.append(_Member(number, network, _draw(data, number, config), config))
    return members


def _draw(data: Sequence[Data], number: int, config: OpTrainingConfig) -> list[Data]:
    """Return the units of one member: all for a single one, else most of them."""
    generator = _generator(config.seed, number, -1)
    drawn = torch.rand(len(data), generator=generator) < (_DRAWN if config.members > 1 else 1.0)
    return [item for item, kept in zip(data, drawn.tolist(), strict=True) if kept] or list(data)


def _normalisation(data: Sequence[Data]) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation of every feature; 0 where it is always the same."""
    nodes = torch.cat([item.x for item in data]).double()
    deviation = nodes.std(dim=0, correction=0)
    scale = torch.where(deviation > 1e-6, 1.0 / deviation.clamp_min(1e-6), 0.0)
    return nodes.mean(dim=0).float(), scale.float()


def _one_cycle(progress: float) -> float:
    """Share of the largest learning rate: a linear warm-up, then half a cosine."""
    if progress < _WARM_UP:
        return max(progress / _WARM_UP, 0.01)
    return 0.5 * (1.0 + math.cos(math.pi * (progress - _WARM_UP) / (1.0 - _WARM_UP))) + 1e-3


def _generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*parts))


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:6], "little")


def _identity(data: Sequence[Data], config: OpTrainingConfig) -> str:
    """Hash of everything that the result depends on."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for item in data:
        for tensor in (item.x, item.name, item.log_s, item.edge_index):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
