"""What the links between the ranks of a problem carry."""

from __future__ import annotations

from remora.schedule.problem import Problem

__all__ = ["link_rates"]


def link_rates(problem: Problem) -> tuple[float, float]:
    """Bytes per second of the slowest link between ranks and inside of a node; 0 on one device."""
    if problem.world_size == 1:
        return 0.0, 0.0
    hardware = problem.hardware
    spread = problem.world_size > hardware.devices_per_node
    slowest = hardware.node_link if spread else hardware.link
    share = 1.0 if hardware.state is None else hardware.state.link_share
    rates = slowest.bandwidth_bytes_per_s, hardware.link.bandwidth_bytes_per_s
    return rates[0] * share, rates[1] * share
