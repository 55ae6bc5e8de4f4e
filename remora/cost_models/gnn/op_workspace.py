"""Memory that operators take beyond their results, learned from what single ones took.

Legend: K distinct operators, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from remora.cost_models.gnn.op_classes import CLASSES
from remora.cost_models.gnn.op_examples import UnitExample
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures

__all__ = ["WorkspaceNetwork", "fit_workspace"]

_WIDTH = 48
_NAME_WIDTH = 12
_STEPS = 500
_BATCH = 1024
_LEARNING_RATE = 1e-2

_SMALLEST_BYTES = 4096
"""Less than this changes no peak; scalars that are wrapped as tensors stay below it."""

_LARGEST_SHARE = 50.0
"""More times the bytes of its tensors no operator was seen to take."""


class WorkspaceNetwork(nn.Module):
    """Whether an operator takes workspace, and what share of its tensors' bytes.

    Args:
        num_names: rows of the embedding.
        mean, scale: of the features in the training data.  # [F]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_names: int, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.names = nn.Embedding(num_names, _NAME_WIDTH)
        self.kinds = nn.Embedding(len(CLASSES), _NAME_WIDTH)
        into = len(OP_FEATURES) + 2 * _NAME_WIDTH
        self.layers = nn.Sequential(
            nn.Linear(into, _WIDTH),
            nn.SiLU(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.SiLU(),
            nn.Linear(_WIDTH, 2),
        )

    def forward(self, nodes: Tensor, name: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit of taking any, and the logarithm of the share.  # [K], [K]."""
        features = ((nodes - self.mean) * self.scale).clamp(-6.0, 6.0)
        told = torch.cat([features, self.names(name), self.kinds(kind)], dim=1)
        taken, share = self.layers(told).unbind(dim=1)
        return taken, share

    def workspace_bytes(self, features: UnitFeatures, names: Tensor) -> NDArray[np.float64]:
        """Return the bytes of every operator of a unit.

        Args:
            features: of the unit.
            names: row of the embedding of every operator.  # [N]

        Returns:
            0 where none is expected.  # [N]
        """
        with torch.no_grad():
            taken, share = self(torch.tensor(features.nodes), names, torch.tensor(features.classes))
        num_bytes = share.double().exp().clamp_max(_LARGEST_SHARE).numpy() * features.tensor_bytes
        found = np.where(taken.numpy() > 0.0, num_bytes, 0.0)
        return np.asarray(np.where(features.classes == CLASSES.index("view"), 0.0, found))


def fit_workspace(
    examples: Sequence[UnitExample], name_ids: dict[str, int], seed: int
) -> WorkspaceNetwork:
    """Fit the network on the distinct operators of measured units.

    Args:
        examples: at least one.
        name_ids: row of the embedding by base name.
        seed: of weights and draws.
    """
    nodes, name, kind, share = _distinct(examples, name_ids)
    deviation = nodes.std(dim=0, correction=0)
    scale = torch.where(deviation > 1e-6, 1.0 / deviation.clamp_min(1e-6), 0.0)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = WorkspaceNetwork(max(name_ids.values()) + 1, nodes.mean(dim=0), scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
    taken = (share > 0).float()
    log_share = share.clamp_min(1e-9).log()
    generator = torch.Generator().manual_seed(seed)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1.0 - step / _STEPS)
        chosen = torch.randint(len(nodes), (min(_BATCH, len(nodes)),), generator=generator)
        logit, told = network(nodes[chosen], name[chosen], kind[chosen])
        gate = nn.functional.binary_cross_entropy_with_logits(logit, taken[chosen])
        error = nn.functional.huber_loss(told, log_share[chosen], reduction="none", delta=0.3)
        optimizer.zero_grad(set_to_none=True)
        there = taken[chosen]
        (gate + (error * there).sum() / there.sum().clamp_min(1.0)).backward()
        optimizer.step()
    return network.eval()


def _distinct(
    examples: Sequence[UnitExample], name_ids: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, names, groups and shares of operators that differ.

    # [K, F], [K], [K], [K].
    """
    view = CLASSES.index("view")
    rows: dict[tuple[str, bytes], tuple[NDArray[np.float32], int, int, float]] = {}
    for example in examples:
        features = example.features
        for i, name in enumerate(features.names):
            kind = int(features.classes[i])
            num_bytes = features.tensor_bytes[i]
            if kind == view or num_bytes <= 0:
                continue
            taken = example.workspace_bytes[i]
            share = taken / num_bytes if taken >= _SMALLEST_BYTES else 0.0
            nodes = features.nodes[i]
            rows.setdefault((name, nodes.tobytes()), (nodes, name_ids[name], kind, share))
    nodes, names, kinds, shares = zip(*rows.values(), strict=True)
    return (
        torch.tensor(np.stack(nodes)),
        torch.tensor(names),
        torch.tensor(kinds),
        torch.tensor(shares, dtype=torch.float32),
    )
