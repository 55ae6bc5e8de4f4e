"""The network over the operators of units: times as a bounded utilisation of the roofline.

Legend: N operators of all units of a batch, E edges, F features, H width, T types of edges,
S channels of a message.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data  # type: ignore[import-untyped]
from torch_geometric.utils import scatter  # type: ignore[import-untyped]

from remora.cost_models.gnn.op_classes import CLASSES
from remora.cost_models.gnn.op_context import EDGE_TYPES
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures
from remora.cost_models.gnn.op_places import UNKNOWN

__all__ = ["NetworkSize", "OpNetwork", "as_batch", "as_data"]

MOST_ARITHMETIC = 2.5
"""No operator is faster than this many times the measured rate of a matrix product: Winograd's
transform saves a factor of 2.25, and oneDNN's kernels use vectors twice as wide as MKL's product
does on some processors."""

CACHE_SPEED = 8.0
"""Caches are at most this much faster than the device's memory."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """How large the network is.

    Attributes:
        width: features of an operator inside the network.
        layers: rounds of message passing.
        name_width: length of the embedding of a name.
        said: channels of a message to a neighbour.
    """

    width: int = 64
    layers: int = 2
    name_width: int = 16
    said: int = 12

    def as_dict(self) -> dict[str, int]:
        """The sizes as plain values."""
        return asdict(self)


def as_data(features: UnitFeatures, name_ids: dict[str, int]) -> Data:
    """Return a unit as a graph of torch-geometric.

    Args:
        features: of the unit.
        name_ids: row of the embedding by base name; others are :data:`UNKNOWN`.
    """
    degree = torch.zeros(len(features.names), len(EDGE_TYPES))
    edge_index, edge_type = torch.tensor(features.edge_index), torch.tensor(features.edge_type)
    degree.index_put_((edge_index[1], edge_type), torch.ones(len(edge_type)), accumulate=True)
    weight = 1.0 / degree[edge_index[1], edge_type]
    return Data(
        x=torch.tensor(features.nodes),
        name=torch.tensor([name_ids.get(name, UNKNOWN) for name in features.names]),
        kind=torch.tensor(features.classes),
        arithmetic_s=torch.tensor(features.arithmetic_s, dtype=torch.float32),
        traffic_s=torch.tensor(features.traffic_s, dtype=torch.float32),
        launch_s=torch.full((len(features.names),), features.launch_s),
        edge_index=edge_index,
        edge_type=edge_type,
        edge_weight=weight,
    )


def as_batch(data: list[Data]) -> Batch:
    """Join graphs to one."""
    return Batch.from_data_list(data)


class TypedConv(nn.Module):
    """Mean over the neighbours of every type of edge, in a few channels of each type.

    A relational convolution (Schlichtkrull et al., https://arxiv.org/abs/1703.06103) that says
    little to each neighbour: most of what an operator costs, its own features tell.

    Args:
        width: features of an operator.
        said: channels of a message.
    """

    def __init__(self, width: int, said: int) -> None:
        super().__init__()
        self.said = said
        self.say = nn.Linear(width, said * len(EDGE_TYPES))
        self.norm = nn.LayerNorm(width)
        self.hear = nn.Sequential(
            nn.Linear(width + said * len(EDGE_TYPES), width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, nodes: Tensor, batch: Batch) -> Tensor:
        """Pass messages once.  # [N, H]."""
        types = len(EDGE_TYPES)
        inner = self.norm(nodes)
        messages = self.say(inner).view(-1, self.said)  # [N T, S]
        source = batch.edge_index[0] * types + batch.edge_type
        target = batch.edge_index[1] * types + batch.edge_type
        heard = scatter(
            messages.index_select(0, source) * batch.edge_weight[:, None],
            target,
            dim=0,
            dim_size=len(messages),
            reduce="sum",
        )  # [N T, S]
        told: Tensor = self.hear(torch.cat([inner, heard.view(len(nodes), -1)], dim=1))
        return nodes + told


class OpNetwork(nn.Module):
    """Logarithms of operator times.

    A time is what physics asks for at least, plus three terms that the network scales: a launch,
    the arithmetic at the peak rate and the traffic at the memory's bandwidth. So no prediction is
    below the bound, and one for larger tensors grows as they do.

    Args:
        num_names: rows of the embedding, :data:`UNKNOWN` among them.
        size: of the network.
        mean, scale: of the features in the training data.  # [F]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_names: int, size: NetworkSize, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.names = nn.Embedding(num_names, size.name_width)
        self.kinds = nn.Embedding(len(CLASSES), size.name_width)
        into = len(OP_FEATURES) + 2 * size.name_width
        self.into = nn.Sequential(
            nn.Linear(into, 2 * size.width), nn.SiLU(), nn.Linear(2 * size.width, size.width)
        )
        self.layers = nn.ModuleList(TypedConv(size.width, size.said) for _ in range(size.layers))
        self.out = nn.Sequential(
            nn.Linear(size.width + into, size.width), nn.SiLU(), nn.Linear(size.width, 3)
        )
        last = self.out[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logarithm of every operator's seconds.  # [N]."""
        features = ((batch.x - self.mean) * self.scale).clamp(-12.0, 12.0)
        told = torch.cat([features, self.names(batch.name), self.kinds(batch.kind)], dim=1)
        nodes = self.into(told)
        for layer in self.layers:
            nodes = layer(nodes, batch)
        factors = self.out(torch.cat([nodes, told], dim=1)).clamp(-8.0, 8.0).exp()  # [N, 3]
        parts = torch.stack([batch.launch_s, batch.arithmetic_s, batch.traffic_s], dim=1)  # [N, 3]
        bound_s = torch.maximum(batch.arithmetic_s / MOST_ARITHMETIC, batch.traffic_s / CACHE_SPEED)
        seconds = bound_s + (factors * parts).sum(dim=1)
        return torch.log(seconds.clamp_min(1e-12))
