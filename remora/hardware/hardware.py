"""Devices, links and their state, as one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HostLink:
    """The way between a device and host memory.

    Attributes:
        memory_bytes: host memory of a node.
        d2h_bytes_per_s, h2d_bytes_per_s: rate of a rank that has the link to itself.
        latency_s: fixed cost of one copy.
        ranks_per_link: ranks that share it; each always gets its share only.
        unified: host and device are one memory, so offload frees nothing.
        pool: ``pinned``, ``emulated`` (counted as host on a unified machine) or ``none``.
    """

    memory_bytes: int
    d2h_bytes_per_s: float
    h2d_bytes_per_s: float
    latency_s: float
    ranks_per_link: int
    unified: bool
    pool: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link between two devices, per direction.

    Attributes:
        bandwidth_bytes_per_s: above 0.
        latency_s: of a message of no bytes, 0 or more.
    """

    bandwidth_bytes_per_s: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class HardwareState:
    """What changes while the machine runs: free device memory and shares of the nominal rates.

    Attributes:
        free_memory_bytes: of every device.
        host_link_share: of the rate of host copies, above 0 and up to 1.
        link_share: of the rate of links between devices, above 0 and up to 1.
    """

    free_memory_bytes: int
    host_link_share: float = 1.0
    link_share: float = 1.0


def rate_name(dtype: str) -> str:
    """Name in ``flops_per_s`` of the rate of a dtype: all kinds of fp8 have one."""
    return "float8" if dtype.startswith("float8") else dtype


@dataclass(frozen=True)
class Hardware:
    """One kind of device, how many a node has, and how they are linked.

    Attributes:
        name: name in the configuration.
        device_type: ``cuda`` or ``cpu``.
        devices_per_node: devices of one node.
        memory_bytes: memory of one device.
        context_bytes: memory the driver takes before the program does; outside the budget.
        flops_per_s: matrix rate by dtype name.
        memory_bandwidth_bytes_per_s: device memory.
        kernel_launch_s: overhead of one operator.
        host: link to host memory.
        link: link between devices of one node.
        node_link: link between nodes, per device.
        state: free memory and live link rates; None means as new.
    """

    name: str
    device_type: str
    devices_per_node: int
    memory_bytes: int
    context_bytes: int
    flops_per_s: Mapping[str, float]
    memory_bandwidth_bytes_per_s: float
    kernel_launch_s: float
    host: HostLink
    link: Link
    node_link: Link
    state: HardwareState | None = field(default=None)

    @property
    def free_memory_bytes(self) -> int:
        """Memory a program can use on one device now."""
        if self.state is not None:
            return self.state.free_memory_bytes
        return self.memory_bytes - self.context_bytes

    @property
    def can_offload(self) -> bool:
        """Whether moving a tensor to the host frees device memory."""
        return self.host.pool != "none" and (not self.host.unified or self.host.pool == "emulated")

    @property
    def copies_overlap(self) -> bool:
        """Whether host copies run beside computation (on a CPU they do not)."""
        return self.device_type == "cuda"
