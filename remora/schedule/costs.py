"""Seconds and bytes of one graph on one hardware."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds and bytes of one graph on one hardware; the simulator computes none of them.

    Attributes:
        source: name of the cost model that made it.
        op_time_s: seconds of every operator, in the graph's order.  # [num_ops]
        op_workspace_bytes: memory an operator takes while it runs, beyond its results.  # [num_ops]
        d2h_bytes_per_s, h2d_bytes_per_s: host copies of one rank that has the link to itself.
        copy_latency_s: fixed cost of one host copy.
        optimizer_time_s: seconds of one optimizer step over all parameters.
        allocation_granularity_bytes: the allocator rounds every block up to a multiple of it.
        saved_tensor_overhead_s: what the host adds per saved tensor that is recomputed or moved
            instead of kept.
        recorded_op_overhead_s: what the host adds per forward operator of a unit that is
            recomputed in part, since each of them has to be written down.
        compress_bytes_per_s, restore_bytes_per_s: rate of making a low-bit copy and of reading it
            back, in bytes of the original.
        host_optimizer_time_s: seconds of one optimizer step over all parameters on the host.
    """

    source: str
    op_time_s: tuple[float, ...]
    op_workspace_bytes: tuple[int, ...]
    d2h_bytes_per_s: float
    h2d_bytes_per_s: float
    copy_latency_s: float
    optimizer_time_s: float
    allocation_granularity_bytes: int
    saved_tensor_overhead_s: float = 0.0
    recorded_op_overhead_s: float = 0.0
    compress_bytes_per_s: float = 1e9
    restore_bytes_per_s: float = 1e9
    host_optimizer_time_s: float = 0.0
