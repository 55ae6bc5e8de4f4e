"""What behaviour cloning makes small: cross entropy of decisions, and the critic's error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remora.agents.learned.imitation.recordings import Minibatch
from remora.agents.learned.network import PlanNetwork, decided_at

__all__ = ["CloningLoss", "cloning_loss"]


@dataclass(frozen=True)
class CloningLoss:
    """Means over the steps of a minibatch.

    Attributes:
        decisions: weighted divergence of the policy from the targets, in nats.  # []
        value: mean square of the critic's error.  # []
        weight: sum of the weights of the steps.
        steps: their number.
    """

    decisions: Tensor
    value: Tensor
    weight: float
    steps: int


def cloning_loss(network: PlanNetwork, minibatch: Minibatch) -> CloningLoss:
    """Look at all steps of whole episodes at once; every graph is encoded once.

    Cross entropy less the entropy of the targets, which no policy goes below, so that 0 is best.

    Args:
        network: the policy.
        minibatch: episodes.
    """
    reader = network.reader
    encoding = reader.encode(minibatch.graphs)
    before = reader.decided_before(encoding, minibatch.graph, minibatch.decisions)
    decided = decided_at(before, minibatch.episode, minibatch.steps)
    scores, values = network(encoding, minibatch.steps, decided)
    told = torch.log_softmax(scores.masked_fill(~minibatch.mask, -torch.inf), dim=1)
    targets = minibatch.targets
    missing = torch.xlogy(targets, targets) - targets * told.masked_fill(~minibatch.mask, 0.0)
    weight = minibatch.weights.sum()
    return CloningLoss(
        decisions=(minibatch.weights * missing.sum(dim=1)).sum() / weight.clamp(min=1e-12),
        value=torch.square(values.squeeze(1) - minibatch.returns).mean(),
        weight=float(weight),
        steps=len(values),
    )
