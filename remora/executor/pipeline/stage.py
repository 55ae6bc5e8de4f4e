"""A stage on its rank: PyTorch's own, with messages of ours.

PyTorch's :class:`~torch.distributed.pipelining.PipelineStage` runs forwards, backwards and their
halves and keeps what lies between them. It sends only to the next stage; ours sends an activation
to every stage that reads it, however far, as schedules are priced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining._backward import stage_backward

from remora.executor.pipeline.exchange import Exchange
from remora.executor.pipeline.forward_tape import ForwardTape
from remora.executor.pipeline.parts import StagePart
from remora.executor.pipeline.split_backward import SplitBackward
from remora.executor.pipeline.stage_module import StageModule

__all__ = ["RankStage"]


class RankStage(PipelineStage):
    """One stage.

    Args:
        module: plays it.
        part: what it is.
        number: in the order of tasks; chimera counts the stages of both directions.
        num_stages: of one copy of the model.
        tape: of the whole model.
        exchange: messages of the rank.
        device: where it runs.
        micro_batches: of one step.
        group: the ranks of the pipeline.
    """

    def __init__(
        self,
        module: StageModule,
        part: StagePart,
        number: int,
        num_stages: int,
        tape: ForwardTape,
        exchange: Exchange,
        device: torch.device,
        micro_batches: int,
        group: dist.ProcessGroup,
    ) -> None:
        super().__init__(
            module,
            part.index,
            num_stages,
            device,
            input_args=_examples(tape, part.received),
            output_args=_examples(tape, part.exported),
            group=group,
        )
        # A schedule of PyTorch's would set these; ours has an order of its own.
        self.has_backward = True
        self.chunks = micro_batches
        self._stage_meta.inputs = self._user_meta.inputs
        self._part = part
        self._number = number
        self._exchange = exchange
        self._micro_batches = micro_batches
        self._losses: dict[int, Tensor] = {}
        self._borders: dict[int, list[GradientEdge]] = {}
        self._halves: dict[int, SplitBackward] = {}

    def run_forward(self, micro_batch: int) -> Tensor | None:
        """Receive, run the forward, send.

        Returns:
            the loss of the micro-batch, without a graph, on the last stage.
        """
        with _own_errors():
            outputs = self.forward_one_chunk(
                micro_batch, (), {"micro_batch": micro_batch}, save_forward_output=False
            )
        if not self.is_last:
            self._exchange.send(self._number, micro_batch, self._part.exported, outputs)
            return None
        (loss,) = outputs
        self._losses[micro_batch] = loss / self._micro_batches
        value: Tensor = loss.detach()
        return value

    def run_backward(self, micro_batch: int) -> None:
        """Receive gradients, run the backward, send."""
        loss = self._losses.pop(micro_batch, None)
        self._borders.pop(micro_batch, None)
        with _own_errors():
            self.backward_one_chunk(micro_batch, loss=loss)
        self._send_gradients(micro_batch, self.bwd_cache.pop(micro_batch))

    def run_backward_input(self, micro_batch: int) -> None:
        """Receive gradients, run the first half of a backward, send."""
        outputs, inputs = self.fwd_cache.pop(micro_batch)
        # The number of the micro-batch is an argument of the module, too.
        received = inputs[: len(self._part.received)]
        border = self._borders.pop(micro_batch, [])
        wanted = [position for position, tensor in enumerate(received) if tensor.requires_grad]
        targets = _edges([received[position] for position in wanted]) or border
        if self.is_last:
            half = SplitBackward([self._losses.pop(micro_batch)], None, targets, not wanted)
        else:
            gradients = self._retrieve_recv_grads(micro_batch)
            half = SplitBackward(outputs, gradients, targets, not wanted)
        del outputs, inputs
        made = half.run_inputs()
        self._halves[micro_batch] = half
        found = dict(zip(wanted, made, strict=True)) if wanted else {}
        self._send_gradients(micro_batch, [found.get(p) for p in range(len(received))])

    def run_backward_weight(self, micro_batch: int) -> None:
        """Run the second half of a backward."""
        self._halves.pop(micro_batch).run_weights()

    def note_border(self, micro_batch: int, values: Sequence[Tensor]) -> None:
        """Note what the first unit of the stage hands on.

        Where nothing that the stage received wants a gradient, the first half ends there.
        """
        self._borders[micro_batch] = _edges([value for value in values if value.requires_grad])

    def backward_maybe_with_nosync(
        self, backward_type: str, bwd_kwargs: dict[str, Any], last_backward: bool = False
    ) -> tuple[tuple[Tensor | None, ...], None]:
        """Run a whole backward; what replicas do about its gradients is said elsewhere."""
        assert backward_type == "full"
        made = stage_backward(
            bwd_kwargs["stage_output"], bwd_kwargs["output_grads"], bwd_kwargs["input_values"]
        )
        return made, None

    def _send_gradients(self, micro_batch: int, gradients: Sequence[Tensor | None]) -> None:
        received = self._part.received
        self._exchange.send_gradients(self._number, micro_batch, received, gradients)

    def _retrieve_recv_activations(self, fwd_chunk_id: int) -> tuple[Tensor, ...]:
        received = self._part.received
        return tuple(self._exchange.received(self._number, fwd_chunk_id, received))

    def _retrieve_recv_grads(self, bwd_chunk_id: int) -> tuple[Tensor | None, ...]:
        exported = self._part.exported
        return tuple(self._exchange.received_gradients(self._number, bwd_chunk_id, exported))


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raise what a stage died of, lack of memory for one, instead of PyTorch's wrapper of it."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def _edges(tensors: Sequence[Tensor]) -> list[GradientEdge]:
    return [get_gradient_edge(tensor) for tensor in tensors]


def _examples(tape: ForwardTape, numbers: Sequence[int]) -> tuple[Tensor, ...]:
    """Tensors without memory of the same shapes."""
    layouts = [tape.values[number].layout for number in numbers]
    return tuple(
        torch.empty_strided(layout.size, layout.stride, dtype=layout.dtype, device="meta")
        for layout in layouts
    )
