"""Receive buffers of a rank, and its sends and receives.

What goes to higher ranks and what goes to lower ranks have a process group each. So between two
ranks each direction is a queue of its own, and both ends use it in the order of
:class:`~remora.executor.pipeline.letters.Post`.

On the CPU all receives of a step are posted when it begins, which keeps sends from waiting for
each other in a circle. On a GPU a posted receive takes part of the device until it is served, so
there only the next one of each rank is posted early, and sends are never waited for inside a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from remora.executor.memory.layout import Layout, bytes_of, layout_of
from remora.executor.pipeline.forward_tape import ValueInfo
from remora.executor.pipeline.letters import Letter, Post

__all__ = ["Exchange", "Links"]


@dataclass(frozen=True)
class Links:
    """How one rank of a pipeline reaches the others.

    Attributes:
        rank: in the pipeline.
        to_global: global rank of every rank of the pipeline.  # [num_ranks]
        upward, downward: groups for what goes to higher and to lower ranks; None on one rank.
    """

    rank: int
    to_global: Sequence[int]
    upward: dist.ProcessGroup | None = None
    downward: dist.ProcessGroup | None = None

    def send(self, tensor: Tensor, receiver: int) -> dist.Work:
        """Begin to send a contiguous tensor to another rank of the pipeline."""
        group = self.upward if receiver > self.rank else self.downward
        work = dist.isend(tensor, self.to_global[receiver], group=group)
        assert work is not None
        return work

    def receive(self, tensor: Tensor, sender: int) -> dist.Work:
        """Begin to receive into a contiguous tensor from another rank of the pipeline."""
        group = self.upward if self.rank > sender else self.downward
        work = dist.irecv(tensor, self.to_global[sender], group=group)
        assert work is not None
        return work


@dataclass
class _Queue:
    """Letters from one rank, in its order of sending; those before ``asked`` are on their way."""

    letters: Sequence[Letter]
    asked: int = 0
    works: dict[Letter, list[dist.Work]] = field(default_factory=dict)


class Exchange:
    """Messages of one rank.

    Receive buffers last as long as the exchange, one per micro-batch and message, as PyTorch's
    pipelines have them. Messages between two stages of the rank are copied into them.

    Args:
        post: who sends what to whom.
        values: what is sent, by number.
        links: to the other ranks.
        device: where buffers lie.
    """

    def __init__(
        self, post: Post, values: Mapping[int, ValueInfo], links: Links, device: torch.device
    ) -> None:
        self._post = post
        self._values = values
        self._links = links
        self._device = device
        self._senders = {
            sender: post.between(sender, links.rank) for sender in range(len(links.to_global))
        }
        self._buffers = {
            letter: self._new_buffers(letter)
            for letters in self._senders.values()
            for letter in letters
        }
        self._queues: dict[int, _Queue] = {}
        self._held: list[list[tuple[dist.Work, Tensor]]] = [[], []]

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all receive buffers."""
        tensors = [tensor for buffers in self._buffers.values() for tensor in buffers]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def begin_step(self) -> None:
        """Nothing of the step before is on its way; begin to receive."""
        self._queues = {
            sender: _Queue(letters)
            for sender, letters in self._senders.items()
            if sender != self._links.rank
        }
        for sender, queue in self._queues.items():
            while self._posts_early and queue.asked < len(queue.letters):
                self._ask(queue, sender)

    def begin_task(self) -> None:
        """Let go of what the task before the last sent."""
        old = self._held.pop(0)
        self._held.append([])
        for work, tensor in old:
            if self._posts_early:
                work.wait()
            elif not work.is_completed():
                self._held[0].append((work, tensor))

    def end_step(self) -> None:
        """Wait for everything that was sent."""
        for work, _ in (entry for held in self._held for entry in held):
            work.wait()
        self._held = [[], []]

    def received(self, stage: int, micro_batch: int, numbers: Sequence[int]) -> list[Tensor]:
        """Wait for what a forward reads of other stages.

        Returns:
            leaves of a graph of their own, in the order of ``numbers``.
        """
        tensors: dict[int, Tensor] = {}
        for letter in self._post.incoming(False, stage, micro_batch):
            message = self._post.message(letter)
            buffers = dict(
                zip(
                    (self._values[n].storage for n in message.storages),
                    self._collect(letter),
                    strict=True,
                )
            )
            for number in message.values:
                info = self._values[number]
                tensor = info.layout.over(buffers[info.storage].untyped_storage())
                tensors[number] = tensor.requires_grad_(info.differentiable)
        return [tensors[number] for number in numbers]

    def received_gradients(
        self, stage: int, micro_batch: int, numbers: Sequence[int]
    ) -> list[Tensor | None]:
        """Wait for the gradients of what a stage exported, summed over the stages that read it.

        Returns:
            in the order of ``numbers``; None for what has no gradient.
        """
        sums: dict[int, Tensor] = {}
        for letter in self._post.incoming(True, stage, micro_batch):
            buffers = self._collect(letter)
            for number, buffer in zip(self._post.message(letter).gradients, buffers, strict=True):
                if number in sums:
                    sums[number].add_(buffer)
                else:
                    sums[number] = buffer
        return [sums.get(number) for number in numbers]

    def send(
        self, stage: int, micro_batch: int, numbers: Sequence[int], outputs: Sequence[Tensor]
    ) -> None:
        """Send what a forward made; ``outputs`` in the order of ``numbers``."""
        by_number = dict(zip(numbers, outputs, strict=True))
        for letter in self._post.outgoing(False, stage, micro_batch):
            message = self._post.message(letter)
            contents = [self._content(n, message.values, by_number) for n in message.storages]
            self._deliver(letter, contents)

    def send_gradients(
        self,
        stage: int,
        micro_batch: int,
        numbers: Sequence[int],
        gradients: Sequence[Tensor | None],
    ) -> None:
        """Send the gradients of what a stage received; zeros for what got none."""
        by_number = dict(zip(numbers, gradients, strict=True))
        for letter in self._post.outgoing(True, stage, micro_batch):
            wanted = self._post.message(letter).gradients
            self._deliver(letter, [self._packed(by_number[n], n) for n in wanted])

    @property
    def _posts_early(self) -> bool:
        return self._device.type == "cpu"

    def _deliver(self, letter: Letter, contents: Sequence[Tensor]) -> None:
        receiver = self._post.rank_of(letter.receiver)
        if receiver == self._links.rank:
            for buffer, content in zip(self._buffers[letter], contents, strict=True):
                buffer.copy_(content)
            return
        for content in contents:
            self._held[-1].append((self._links.send(_flat(content), receiver), content))

    def _collect(self, letter: Letter) -> list[Tensor]:
        """Wait for a letter; ask for those before it and for the next."""
        sender = self._post.rank_of(letter.sender)
        if sender != self._links.rank:
            queue = self._queues[sender]
            while letter not in queue.works:
                self._ask(queue, sender)
            if queue.asked < len(queue.letters):
                self._ask(queue, sender)
            for work in queue.works.pop(letter):
                work.wait()
        return self._buffers[letter]

    def _ask(self, queue: _Queue, sender: int) -> None:
        letter = queue.letters[queue.asked]
        queue.asked += 1
        queue.works[letter] = [
            self._links.receive(_flat(buffer), sender) for buffer in self._buffers[letter]
        ]

    def _content(self, first: int, numbers: Sequence[int], made: Mapping[int, Tensor]) -> Tensor:
        """Bytes of a storage; laid out anew if the kernels chose another layout than the trace."""
        info = self._values[first]
        here = [n for n in numbers if self._values[n].storage == info.storage]
        storage = made[first].untyped_storage()
        if storage.nbytes() == info.num_bytes and all(
            layout_of(made[n]) == self._values[n].layout for n in here
        ):
            return bytes_of(storage)
        content = torch.empty(info.num_bytes, dtype=torch.uint8, device=self._device)
        for number in here:
            target = self._values[number].layout.over(content.untyped_storage())
            target.copy_(made[number].detach())
        return content

    def _packed(self, gradient: Tensor | None, number: int) -> Tensor:
        """A gradient in the layout of its receive buffer."""
        layout = self._values[number].layout
        if gradient is None:
            return self._gradient_buffer(number).zero_()
        if gradient.stride() == _dense_stride(layout) and gradient.dtype == layout.dtype:
            return gradient
        return self._gradient_buffer(number).copy_(gradient)

    def _new_buffers(self, letter: Letter) -> list[Tensor]:
        message = self._post.message(letter)
        if letter.backward:
            return [self._gradient_buffer(number) for number in message.gradients]
        sizes = [self._values[number].num_bytes for number in message.storages]
        return [torch.empty(size, dtype=torch.uint8, device=self._device) for size in sizes]

    def _gradient_buffer(self, number: int) -> Tensor:
        layout = self._values[number].layout
        return torch.empty_strided(
            layout.size, _dense_stride(layout), dtype=layout.dtype, device=self._device
        )


def _dense_stride(layout: Layout) -> tuple[int, ...]:
    """Strides of a gradient: those of its value where that has no gaps, else in order."""
    value = torch.empty_strided(layout.size, layout.stride, dtype=layout.dtype, device="meta")
    return torch.empty_like(value).stride()


def _flat(tensor: Tensor) -> Tensor:
    """All elements of a tensor without gaps, in the order of memory.  # [num_elements]."""
    return tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
