"""Training of the ensemble that corrects step times: deterministic by seed, resumable."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remora.cost_models.gnn.step_examples import StepExample, by_graph
from remora.cost_models.gnn.step_network import (
    LIMIT,
    StepNetwork,
    batch_of_graph,
    join_steps,
)
from remora.errors import FileFormatError, InvalidInputError
from remora.report.files import write_bytes

__all__ = ["StepTrainingConfig", "TrainedMember", "Watch", "train_members"]

Watch = Callable[[Mapping[str, float], int], None]

_COUNTS = ("members", "epochs", "hidden", "layers", "batch_graphs", "checkpoint_every")


@dataclass(frozen=True)
class StepTrainingConfig:
    """Values of one training of the step model.

    Attributes:
        seed: of weights, batches and held-out graphs.
        members: networks of the ensemble.
        epochs: passes of each over its graphs.
        learning_rate: of the layers at the start; it falls to 0 along a cosine.
        shared_rate: the same of the factors that all models share.
        weight_decay: of the layers; there is little data for what differs from unit to unit.
        hidden: width of the networks.
        layers: rounds of message passing.
        batch_graphs: graphs of one gradient step, with all their schedules.
        order_weight: how much the error of differences between schedules of one graph counts
            beside that of each schedule.
        huber: error from which on it counts linearly.
        confidence: of the bound on the peak.
        checkpoint_every: epochs between two checkpoints.
    """

    seed: int = 0
    members: int = 3
    epochs: int = 30
    learning_rate: float = 1e-3
    shared_rate: float = 2e-2
    weight_decay: float = 1.0
    hidden: int = 32
    layers: int = 2
    batch_graphs: int = 16
    order_weight: float = 1.0
    huber: float = 0.05
    confidence: float = 0.95
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        """Check what would only fail deep inside the training."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise InvalidInputError(
                    f"step_training.{name} is {getattr(self, name)}; allowed: 1 or more"
                )
        if not 0 < self.confidence < 1:
            raise InvalidInputError(
                f"step_training.confidence is {self.confidence}; allowed: between 0 and 1"
            )


@dataclass(frozen=True)
class TrainedMember:
    """One network of the ensemble.

    Attributes:
        network: its weights, ready to predict.
        held_out: places of the examples that it did not learn from.  # [any]
    """

    network: StepNetwork
    held_out: NDArray[np.int64]


def train_members(
    examples: Sequence[StepExample],
    config: StepTrainingConfig,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
) -> list[TrainedMember]:
    """Train every member on the graphs that it does not hold out.

    Args:
        examples: measured steps, at least one.
        config: values of the training.
        watch: called after every epoch with the loss, and the number of epochs so far.
        checkpoint: file to resume from; a training that was killed and goes on from it ends with
            the same weights.

    Raises:
        InvalidInputError: there is no example.
        FileFormatError: the checkpoint is damaged or belongs to another training.
    """
    if not examples:
        raise InvalidInputError("examples has 0 entries; allowed: 1 or more measured steps")
    run = _Run(examples, config, watch, checkpoint)
    return [run.member(number) for number in range(config.members)]


class _Run:
    """One training: the examples as tensors, and the file it is resumed from."""

    def __init__(
        self,
        examples: Sequence[StepExample],
        config: StepTrainingConfig,
        watch: Watch | None,
        checkpoint: Path | None,
    ) -> None:
        self._config = config
        self._watch = watch
        self._batches = [batch_of_graph(example.encoded) for example in examples]
        self._targets = torch.tensor([_target(example) for example in examples])
        self._graphs = [np.array(places) for places in by_graph(examples).values()]
        order = np.random.default_rng(config.seed).permutation(len(self._graphs))
        # Each graph is held out by one member at most, half of them by none.
        self._fold = np.argsort(order) % (2 * config.members)
        self._file = _CheckpointFile(checkpoint, _fingerprint(examples, config))

    def member(self, number: int) -> TrainedMember:
        """Train one member, or read it from the checkpoint."""
        config = self._config
        learned = [i for i in range(len(self._graphs)) if self._fold[i] != number]
        learned = learned or list(range(len(self._graphs)))
        held_out = [self._graphs[i] for i in range(len(self._graphs)) if i not in learned]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 1000 + number)
            network = StepNetwork(config.hidden, config.layers)
        places = np.concatenate([self._graphs[i] for i in learned])
        network.fit_scale(join_steps([self._batches[place] for place in places]))
        optimizer = _optimizer(network, config)
        for epoch in range(self._file.restore(number, network, optimizer), config.epochs):
            loss = self._epoch(number, epoch, network, optimizer, learned)
            if self._watch is not None:
                done = number * config.epochs + epoch + 1
                self._watch({"step/loss": loss, "step/member": float(number)}, done)
            if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
                self._file.save(number, epoch + 1, network, optimizer)
        return TrainedMember(network.eval(), np.concatenate([np.zeros(0, np.int64), *held_out]))

    def _epoch(
        self,
        number: int,
        epoch: int,
        network: StepNetwork,
        optimizer: torch.optim.Optimizer,
        learned: Sequence[int],
    ) -> float:
        """One pass over the graphs in an order of its own; returns the mean loss."""
        config = self._config
        draw = np.random.default_rng([config.seed, number, epoch])
        shuffled = [learned[i] for i in draw.permutation(len(learned))]
        steps = math.ceil(len(shuffled) / config.batch_graphs)
        total = 0.0
        for step in range(steps):
            progress = (epoch + step / steps) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = group["first_lr"] * 0.5 * (1 + math.cos(math.pi * progress))
            graphs = shuffled[step::steps]
            places = np.concatenate([self._graphs[i] for i in graphs])
            sizes = torch.tensor([len(self._graphs[i]) for i in graphs])
            batch = join_steps([self._batches[place] for place in places])
            loss = _loss(network(batch), self._targets[places], sizes, config)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            total += loss.item() / steps
        return total


def _loss(predicted: Tensor, target: Tensor, sizes: Tensor, config: StepTrainingConfig) -> Tensor:
    """Error of every step, and of its difference to the mean of its graph's steps.

    The order of the schedules of one graph depends on the second alone.

    Args:
        predicted: logarithms.  # [n]
        target: logarithms.  # [n]
        sizes: steps of every graph; they stand together.  # [graphs]
        config: weights of the two.
    """
    errors = predicted - target
    owner = torch.repeat_interleave(sizes)
    means = errors.new_zeros(len(sizes)).index_add(0, owner, errors) / sizes
    alone = _huber(errors, config.huber)
    return alone + config.order_weight * _huber(errors - means[owner], config.huber)


def _huber(errors: Tensor, delta: float) -> Tensor:
    return torch.nn.functional.huber_loss(errors, torch.zeros_like(errors), delta=delta) / delta


def _target(example: StepExample) -> float:
    """Logarithm of measured over simulated seconds, as far as a correction can go."""
    ratio = math.log(example.row.step_time_s / float(example.encoded.step_s[0]))
    return min(max(ratio, -LIMIT), LIMIT)


def _optimizer(network: StepNetwork, config: StepTrainingConfig) -> torch.optim.Optimizer:
    shared = [network.part_bias, network.rest_bias, network.event_cost]
    names = {id(parameter) for parameter in shared}
    layers = [p for p in network.parameters() if id(p) not in names]
    return torch.optim.AdamW(
        [
            {
                "params": layers,
                "weight_decay": config.weight_decay,
                "first_lr": config.learning_rate,
            },
            {"params": shared, "weight_decay": 0.0, "first_lr": config.shared_rate},
        ]
    )


def _fingerprint(examples: Sequence[StepExample], config: StepTrainingConfig) -> str:
    """Hash of everything the weights depend on."""
    digest = hashlib.sha256(repr(sorted(asdict(config).items())).encode())
    for example in examples:
        digest.update(repr((example.subject, example.row.step_time_s)).encode())
        digest.update(example.encoded.steps.tobytes())
        digest.update(example.encoded.nodes.tobytes())
    return digest.hexdigest()


class _CheckpointFile:
    """Finished members and the state of the one in training; nothing in it can run code."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._members: dict[str, Any] = {}
        if path is not None and path.exists():
            self._members = self._read(path)

    def restore(self, number: int, network: StepNetwork, optimizer: torch.optim.Optimizer) -> int:
        """Load what is known of a member; returns the number of its finished epochs."""
        known = self._members.get(str(number))
        if known is None:
            return 0
        network.load_state_dict(known["network"])
        optimizer.load_state_dict(known["optimizer"])
        return int(known["epochs"])

    def save(
        self, number: int, epochs: int, network: StepNetwork, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the file anew, whole or not at all."""
        if self._path is None:
            return
        self._members[str(number)] = {
            "epochs": epochs,
            "network": {name: value.clone() for name, value in network.state_dict().items()},
            "optimizer": optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "members": self._members}, buffer)
        write_bytes(self._path, buffer.getvalue())

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = torch.load(path, weights_only=True)
            fingerprint, members = content["fingerprint"], dict(content["members"])
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise FileFormatError(f"the checkpoint {path} cannot be read: {reason}") from error
        if fingerprint != self._fingerprint:
            raise FileFormatError(
                f"the checkpoint {path} belongs to a training with other values or examples; "
                "remove it to train anew"
            )
        return members
