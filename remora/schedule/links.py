"""Which link two ranks talk over, and what messages and collectives take on it.

Ranks that share layers are neighbours, and so are the replicas of a rank of a pipeline: tensor rank
k of replica j of stage rank r is global rank (r * replicas + j) * degree + k, as Megatron-LM places
them (Narayanan et al. 2021, arXiv 2104.04473), so that layers, and then the gradients of one stage,
are summed inside a node as far as they fit. What follows counts in groups of tensor ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.graph.model_graph import ALL_REDUCE
from remora.hardware.hardware import Hardware, Link

__all__ = ["Links", "collective_s", "groups_per_node"]


@dataclass(frozen=True, slots=True)
class Links:
    """Times on the links of one hardware.

    Attributes:
        hardware: nodes and links.
        replicas: data-parallel replicas of every stage.
        tensor_degree: ranks that share every layer.
    """

    hardware: Hardware
    replicas: int
    tensor_degree: int = 1

    def message_s(self, sender: int, receiver: int, num_bytes: int) -> float:
        """Seconds of a message between two ranks of a pipeline."""
        return _transfer_s(self._between(sender, receiver), self._share, num_bytes)

    def all_reduce_s(self, rank: int, num_bytes: int) -> float:
        """Seconds of summing over the replicas of a rank (ring: twice through)."""
        return 2 * self.gather_s(rank, num_bytes)

    def gather_s(self, rank: int, num_bytes: int) -> float:
        """Seconds of an all-gather or a reduce-scatter of ``num_bytes`` over a rank's replicas."""
        return ring_pass_s(self._between(rank, rank), self._share, self.replicas, num_bytes)

    def exchange_s(self, ranks: tuple[int, ...], num_bytes: int) -> float:
        """Seconds of summing over some ranks of a pipeline."""
        link = self._between(min(ranks), max(ranks))
        return 2 * ring_pass_s(link, self._share, len(ranks), num_bytes)

    @property
    def _share(self) -> float:
        state = self.hardware.state
        return 1.0 if state is None else state.link_share

    def _between(self, first: int, second: int) -> Link:
        """The slowest link between any replicas of two ranks."""
        low, high = min(first, second), max(first, second)
        per_node = groups_per_node(self.hardware, self.tensor_degree)
        nodes = {low * self.replicas // per_node, ((high + 1) * self.replicas - 1) // per_node}
        return self.hardware.link if len(nodes) == 1 else self.hardware.node_link


def groups_per_node(hardware: Hardware, tensor_degree: int) -> int:
    """Groups of tensor ranks that begin on one node; one where a group is larger than a node."""
    return max(1, hardware.devices_per_node // tensor_degree)


def collective_s(hardware: Hardware, name: str, members: int, num_bytes: int) -> float:
    """Seconds of a collective among the ranks that share layers.

    Args:
        hardware: nodes and links; the ranks are neighbours.
        name: of the operator, one of ``COLLECTIVES``.
        members: ranks.
        num_bytes: of the result: what is summed, or all parts together.
    """
    link = hardware.link if members <= hardware.devices_per_node else hardware.node_link
    share = 1.0 if hardware.state is None else hardware.state.link_share
    passes = 2 if name == ALL_REDUCE else 1
    return passes * ring_pass_s(link, share, members, num_bytes)


def ring_pass_s(link: Link, share: float, members: int, num_bytes: int) -> float:
    """Seconds of one pass through a ring: every member sends all parts but its own."""
    if members == 1:
        return 0.0
    steps = members - 1
    return steps * link.latency_s + num_bytes * steps / members / (
        link.bandwidth_bytes_per_s * share
    )


def _transfer_s(link: Link, share: float, num_bytes: int) -> float:
    return link.latency_s + num_bytes / (link.bandwidth_bytes_per_s * share)
