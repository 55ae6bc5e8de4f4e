"""Memory that operators take beyond their results, learned from what single ones took.

Legend: K distinct operators, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from remora.cost_models.gnn.op_classes import CLASSES
from remora.cost_models.gnn.op_examples import UnitExample
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures
from remora.cost_models.gnn.op_places import UNKNOWN, known_ops, name_ids, unit_places
from remora.graph.model_graph import ModelGraph

__all__ = ["WorkspaceNetwork", "fit_workspace", "graph_workspace_bytes"]

_WIDTH = 48
_NAME_WIDTH = 12
_STEPS = 1000
_BATCH = 1024
_LEARNING_RATE = 1e-2

_SMALLEST_BYTES = 4096
"""Less than this changes no peak; scalars that are wrapped as tensors stay below it."""

_LARGEST_MULTIPLE = 4.0
"""Natural logarithm: more than 50 times the bytes of its tensors no operator was seen to take."""


class WorkspaceNetwork(nn.Module):
    """Whether an operator takes workspace, and how much.

    The bytes are a multiple of those of its tensors plus one of a weight in whole blocks, which
    convolutions copy their weights into.

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
            nn.Linear(_WIDTH, 3),
        )

    def forward(
        self, nodes: Tensor, name: Tensor, kind: Tensor, log_bytes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logit of taking any, and the logarithm of the bytes.

        Args:
            nodes: features.  # [K, F]
            name: row of the embedding.  # [K]
            kind: index into ``CLASSES``.  # [K]
            log_bytes: of tensors and of the blocked weight.  # [K, 2]

        Returns:
            # [K], [K].
        """
        features = ((nodes - self.mean) * self.scale).clamp(-12.0, 12.0)
        told = torch.cat([features, self.names(name), self.kinds(kind)], dim=1)
        answer = self.layers(told)  # [K, 3]
        multiples = answer[:, 1:].clamp(-_LARGEST_MULTIPLE, _LARGEST_MULTIPLE)
        return answer[:, 0], torch.logsumexp(multiples + log_bytes, dim=1)

    def workspace_bytes(self, features: UnitFeatures, names: Tensor) -> NDArray[np.float64]:
        """Return the bytes of every operator of a unit.

        Args:
            features: of the unit.
            names: row of the embedding of every operator.  # [N]

        Returns:
            0 where none is expected.  # [N]
        """
        nodes, kinds = torch.tensor(features.nodes), torch.tensor(features.classes)
        with torch.no_grad():
            taken, log_bytes = self(nodes, names, kinds, _log_bytes(features))
        found = np.where(taken.numpy() > 0.0, log_bytes.double().exp().numpy(), 0.0)
        return np.asarray(np.where(features.classes == CLASSES.index("view"), 0.0, found))


def _log_bytes(features: UnitFeatures) -> Tensor:
    """Logarithms of the bytes of tensors and of the blocked weight.  # [N, 2]."""
    columns = np.column_stack([features.tensor_bytes, features.weight_bytes])
    return torch.tensor(np.log(np.maximum(columns, 1.0)), dtype=torch.float32)


def graph_workspace_bytes(
    network: WorkspaceNetwork,
    names: Sequence[str],
    graph: ModelGraph,
    kinds: Mapping[str, UnitFeatures],
) -> NDArray[np.int64]:
    """Predict the workspace of all operators of a graph; 0 for those that training did not see.

    Args:
        network: what :func:`fit_workspace` returned.
        names: base names that it was fitted on.
        graph: the traced step.
        kinds: features of every kind of unit in it.

    Returns:
        Bytes.  # [num_ops]
    """
    ids = name_ids(names)
    found = np.zeros(len(graph.ops), dtype=np.int64)
    by_kind = {}
    for kind, features in kinds.items():
        rows = torch.tensor([ids.get(name, UNKNOWN) for name in features.names])
        told = np.rint(network.workspace_bytes(features, rows)).astype(np.int64)
        by_kind[kind] = np.where(known_ops(features, names), told, 0)
    for unit in graph.units:
        found[unit_places(unit)] = by_kind[unit.kind]
    return found


def fit_workspace(
    examples: Sequence[UnitExample], names: Sequence[str], seed: int
) -> WorkspaceNetwork:
    """Fit the network on the distinct operators of measured units.

    Args:
        examples: at least one.
        names: base names of their operators.
        seed: of weights and draws.
    """
    nodes, name, kind, log_bytes, workspace = _distinct(examples, name_ids(names))
    deviation = nodes.std(dim=0, correction=0)
    scale = torch.where(deviation > 1e-6, 1.0 / deviation.clamp_min(1e-6), 0.0)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = WorkspaceNetwork(len(names) + 1, nodes.mean(dim=0), scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
    taken = (workspace > 0).float()
    log_workspace = workspace.clamp_min(1.0).log()
    generator = torch.Generator().manual_seed(seed)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1.0 - step / _STEPS)
        chosen = torch.randint(len(nodes), (min(_BATCH, len(nodes)),), generator=generator)
        logit, told = network(nodes[chosen], name[chosen], kind[chosen], log_bytes[chosen])
        gate = nn.functional.binary_cross_entropy_with_logits(logit, taken[chosen])
        error = nn.functional.huber_loss(told, log_workspace[chosen], reduction="none", delta=0.1)
        optimizer.zero_grad(set_to_none=True)
        there = taken[chosen]
        (gate + (error * there).sum() / there.sum().clamp_min(1.0)).backward()
        optimizer.step()
    return network.eval()


def _distinct(
    examples: Sequence[UnitExample], ids: Mapping[str, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Features, names, groups, logarithms of bytes and workspaces of operators that differ.

    # [K, F], [K], [K], [K, 2], [K].
    """
    view = CLASSES.index("view")
    rows: dict[tuple[str, bytes], tuple[NDArray[np.float32], int, int, Tensor, float]] = {}
    for example in examples:
        features = example.features
        log_bytes = _log_bytes(features)
        for i in np.flatnonzero((features.classes != view) & (features.tensor_bytes > 0)).tolist():
            name, nodes = features.names[i], features.nodes[i]
            taken = float(example.workspace_bytes[i])
            workspace = taken if taken >= _SMALLEST_BYTES else 0.0
            row = (nodes, ids[name], int(features.classes[i]), log_bytes[i], workspace)
            rows.setdefault((name, nodes.tobytes()), row)
    nodes, names, kinds, logarithms, workspaces = zip(*rows.values(), strict=True)
    return (
        torch.tensor(np.stack(nodes)),
        torch.tensor(names),
        torch.tensor(kinds),
        torch.stack(logarithms),
        torch.tensor(workspaces, dtype=torch.float32),
    )
