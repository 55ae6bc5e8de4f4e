"""Which rank sends what to whom, in which order: the same list on both ends of every link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remora.executor.pipeline.parts import Message
from remora.schedule.orders import Order, TaskKind

__all__ = ["Letter", "Post"]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message for one micro-batch.

    Attributes:
        backward: gradients, from the message's target to its source.
        sender, receiver: stages by their numbers in the order of tasks.
        micro_batch: its number.
    """

    backward: bool
    sender: int
    receiver: int
    micro_batch: int


class Post:
    """Looks letters up.

    Args:
        order: of the tasks.
        messages: between stages of one copy of the model.
        num_stages: of one copy of the model.
    """

    def __init__(self, order: Order, messages: Sequence[Message], num_stages: int) -> None:
        self._order = order
        self._num_stages = num_stages
        self._messages = {(m.source, m.target): m for m in messages}
        self._rank = order.stage_rank.tolist()

    def rank_of(self, stage: int) -> int:
        """Rank of a stage, by its number in the order of tasks."""
        return int(self._rank[stage])

    def message(self, letter: Letter) -> Message:
        """What a letter holds."""
        ends = letter.sender % self._num_stages, letter.receiver % self._num_stages
        return self._messages[ends[::-1] if letter.backward else ends]

    def outgoing(self, backward: bool, stage: int, micro_batch: int) -> list[Letter]:
        """Letters that a stage sends after its forward or backward."""
        own = stage % self._num_stages
        copy = stage - own
        messages = self._messages.values()
        if backward:
            others = [m.source for m in messages if m.target == own and m.gradients]
        else:
            others = [m.target for m in messages if m.source == own]
        return [Letter(backward, stage, other + copy, micro_batch) for other in others]

    def incoming(self, backward: bool, stage: int, micro_batch: int) -> list[Letter]:
        """Letters that a stage waits for before its forward or backward."""
        own = stage % self._num_stages
        copy = stage - own
        messages = self._messages.values()
        if backward:
            others = [m.target for m in messages if m.source == own and m.gradients]
        else:
            others = [m.source for m in messages if m.target == own]
        return [Letter(backward, other + copy, stage, micro_batch) for other in others]

    def between(self, sender: int, receiver: int) -> list[Letter]:
        """All letters from one rank to another (or to itself), in order of sending."""
        return [x for x in self._sent_by(sender) if self.rank_of(x.receiver) == receiver]

    def _sent_by(self, rank: int) -> Iterator[Letter]:
        for kind, stage, micro_batch in self._order.tasks_of(rank):
            if kind is not TaskKind.BACKWARD_WEIGHT:
                yield from self.outgoing(kind is not TaskKind.FORWARD, stage, micro_batch)
