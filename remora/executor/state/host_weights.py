"""Copies of weights in host memory, which an optimizer there steps."""

from __future__ import annotations

from torch import Tensor, nn

from remora.executor.memory.host_pool import HostBlock
from remora.executor.memory.layout import layout_of
from remora.executor.memory.mover import Mover

__all__ = ["HostWeight", "HostWeights", "local_part"]


class HostWeight:
    """A weight of the model and its copy on the host.

    Args:
        device_weight: of the model.
        weight: its copy, or, of a weight that waits on the host, that very memory.
        mover: issues the copies.

    Attributes:
        device_weight: of the model.
        weight: a leaf of the same shape; its ``grad`` is set for an optimizer on the host.
    """

    def __init__(self, device_weight: nn.Parameter, weight: Tensor, mover: Mover) -> None:
        self.device_weight = device_weight
        self.weight = weight.requires_grad_(device_weight.requires_grad)
        self._mover = mover
        self._version = device_weight._version
        self._buffers: list[tuple[HostBlock, Tensor]] = []

    def refresh(self) -> None:
        """Copy the weight of the model again if somebody changed it since."""
        if self.device_weight._version != self._version:
            self.weight.detach().copy_(local_part(self.device_weight.detach()))
            self._version = self.device_weight._version

    def send_back(self) -> None:
        """Copy the weight on the host into the model."""
        local = local_part(self.device_weight.detach())
        local.copy_(self.weight.detach(), non_blocking=True)
        self._version = self.device_weight._version

    def gradient_buffer(self) -> Tensor:
        """Host memory of the shape of the gradient, always the same."""
        return self._buffer(0)

    def landing_buffer(self) -> Tensor:
        """More host memory of that shape, for a gradient that is to be added."""
        return self._buffer(1)

    def give_back(self) -> None:
        """Give up the memory of gradients."""
        self.weight.grad = None
        for block, _ in self._buffers:
            self._mover.pool.give_back(block)
        self._buffers = []

    def _buffer(self, number: int) -> Tensor:
        while len(self._buffers) <= number:
            self._buffers.append(host_like(self.weight, self._mover))
        return self._buffers[number][1]


class HostWeights:
    """The copies of a model, made where they are first asked for.

    Args:
        mover: issues the copies; its pool gives the memory.
    """

    def __init__(self, mover: Mover) -> None:
        self._mover = mover
        self._blocks: list[HostBlock] = []
        self._known: dict[nn.Parameter, HostWeight] = {}

    def of(self, parameter: nn.Parameter) -> HostWeight:
        """Return the copy of a weight that lives on the device."""
        if parameter not in self._known:
            local = local_part(parameter.detach())
            block, weight = host_like(local, self._mover)
            self._blocks.append(block)
            weight.copy_(local)
            self._known[parameter] = HostWeight(parameter, weight, self._mover)
        return self._known[parameter]

    def waiting(self, parameter: nn.Parameter, host_bytes: Tensor) -> HostWeight:
        """Note a weight that waits on the host.

        Args:
            parameter: of the model.
            host_bytes: its storage on the host, uint8.  # [num_bytes]
        """
        weight = layout_of(parameter).over(host_bytes.untyped_storage())
        self._known[parameter] = HostWeight(parameter, weight, self._mover)
        return self._known[parameter]

    def close(self) -> None:
        """Give up the memory of all copies."""
        for weight in self._known.values():
            weight.give_back()
        for block in self._blocks:
            self._mover.pool.give_back(block)
        self._known, self._blocks = {}, []


def local_part(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a distributed tensor, or a whole tensor as it is."""
    to_local = getattr(tensor, "to_local", None)
    part: Tensor = tensor if to_local is None else to_local()
    return part


def host_like(tensor: Tensor, mover: Mover) -> tuple[HostBlock, Tensor]:
    """Take host memory for a contiguous tensor of the same shape and type."""
    block = mover.pool.acquire(tensor.numel() * tensor.element_size())
    return block, block.content.view(tensor.dtype).view(tensor.shape)
