"""Which link two ranks talk over, and what messages and collectives take on it.

Rank r of a pipeline and its replicas are neighbours: replica j of stage rank r is global rank
r * replicas + j, as Megatron-LM places them (Narayanan et al. 2021, arXiv 2104.04473), so that the
gradients of one stage are summed inside a node as far as they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.hardware.hardware import Hardware, Link

__all__ = ["Links"]


@dataclass(frozen=True, slots=True)
class Links:
    """Times on the links of one hardware.

    Attributes:
        hardware: nodes and links.
        replicas: data-parallel replicas of every stage.
    """

    hardware: Hardware
    replicas: int

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
        nodes = {
            low * self.replicas // self.hardware.devices_per_node,
            ((high + 1) * self.replicas - 1) // self.hardware.devices_per_node,
        }
        return self.hardware.link if len(nodes) == 1 else self.hardware.node_link


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
