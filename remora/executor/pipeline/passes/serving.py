"""Passes of a model by a schedule of several ranks, from a program of one's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.passes.runs import Generation
from remora.executor.pipeline.forward_tape import record_pass
from remora.executor.pipeline.job import make_equal
from remora.executor.pipeline.limits import check_passes_run_on_ranks
from remora.executor.pipeline.on_rank import OnRank
from remora.executor.pipeline.passes.generation import RankGeneration
from remora.executor.pipeline.passes.pipeline_pass import PipelinePass
from remora.executor.pipeline.passes.rank_passes import RankPasses
from remora.executor.pipeline.passes.recorded_generation import RecordedPass, record_generation
from remora.executor.pipeline.world import World, join_world, joined_ranks, rank_device
from remora.graph.batch import split_batch
from remora.graph.evaluating import evaluating
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.assignment import reduced_modules
from remora.graph.precision.reduced import reduced_model
from remora.schedule.inference import InferenceSpec
from remora.schedule.schedule import Schedule

__all__ = ["RankServing", "serving_on_ranks"]


class RankServing(OnRank):
    """One rank of a pipeline that runs passes.

    Args:
        passes: of this rank.
        generation: of one micro-batch; None if no tokens were planned.
        recorded: its passes.
        world: where this process stands.
        example_inputs: the batch that was planned for.
        micro_batches: of one pass.
    """

    def __init__(
        self,
        passes: RankPasses,
        generation: Generation | None,
        recorded: tuple[RecordedPass, ...],
        world: World,
        example_inputs: ExampleInputs,
        micro_batches: int,
    ) -> None:
        super().__init__(world, passes.device, example_inputs, micro_batches)
        self._passes = passes
        self._generation = generation
        self._recorded = recorded

    def forward(self, batch: ExampleInputs) -> tuple[Tensor, ...] | None:
        """Run one pass; every rank of a pipeline calls it with the same batch.

        Args:
            batch: of the shape that was planned for.

        Returns:
            The tensors of the model's output in its order, micro-batches one after the other
            along the first dimension, on the last rank of a pipeline; None on the others.

        Raises:
            InvalidInputError: the batch has other names, shapes or values.
        """
        results = PipelinePass(self._passes, self._parts_of(batch)).results()
        if not results:
            return None
        made = [results[number] for number in sorted(results)]
        return tuple(
            torch.cat(same) if same[0].ndim else torch.stack(same)
            for same in zip(*made, strict=True)
        )

    def generate(self, prompt: Tensor) -> Tensor:
        """Generate the planned number of tokens greedily; every rank of a pipeline calls it alike.

        Args:
            prompt: ids of as many sequences and tokens as were planned for.  # [batch, tokens]

        Returns:
            ids of prompt and new tokens, in host memory, on every rank.  # [batch, tokens]

        Raises:
            InvalidInputError: no tokens were planned, or others than these.
        """
        part, count = self._generation, self._micro_batches
        if part is None:
            raise InvalidInputError(
                "the plan has generated_tokens=0; allowed for generate(): a plan with 1 or more"
            )
        planned = (count * part.prompt.shape[0], part.prompt.shape[1])
        if not isinstance(prompt, Tensor) or prompt.is_floating_point():
            kind = prompt.dtype if isinstance(prompt, Tensor) else type(prompt).__name__
            raise InvalidInputError(f"prompt is {kind}; allowed: a tensor of token ids")
        if tuple(prompt.shape) != planned:
            raise InvalidInputError(
                f"prompt has shape {tuple(prompt.shape)}; allowed for this plan: {planned}"
            )
        whole = Generation(part.model, prompt.to(self.device), part.new_tokens)
        return RankGeneration(whole, self._recorded, self._passes, count, self._world).tokens()


@contextlib.contextmanager
def serving_on_ranks(
    model: nn.Module,
    example_inputs: ExampleInputs,
    graph: ModelGraph,
    schedule: Schedule,
    spec: InferenceSpec,
    device_type: str,
    *,
    seed: int = 0,
    timeout_s: float = 1800.0,
) -> Iterator[RankServing]:
    """Join the ranks that torchrun started, and set this one up.

    All ranks have the weights of rank 0. The model is in evaluation mode meanwhile.

    Args:
        model: the whole model, in host memory; the stages of this rank move to its device.
        example_inputs: a batch of one pipeline.
        graph: of one micro-batch, without a backward.
        schedule: valid for it.
        spec: tokens of prompt and after it.
        device_type: ``cpu`` or ``cuda``.
        seed: of the random operators.
        timeout_s: seconds that ranks wait for each other.

    Raises:
        InvalidInputError: the schedule cannot be run on these ranks.
    """
    check_passes_run_on_ranks(model, schedule, spec, int(os.environ.get("WORLD_SIZE", "1")))
    device, count = rank_device(device_type), schedule.pipeline.micro_batches
    with contextlib.ExitStack() as stack:
        stack.enter_context(joined_ranks(device, timeout_s))
        world = join_world(schedule.pipeline.num_ranks)
        make_equal(model, ())
        example = split_batch(example_inputs, count)[0]
        stack.enter_context(evaluating(model))
        stack.enter_context(reduced_model(model, reduced_modules(graph), forward_only=True))
        tape = record_pass(model, example, graph, device)
        generation: Generation | None = None
        recorded: tuple[RecordedPass, ...] = ()
        if spec.generated_tokens:
            amounts = (spec.prompt_tokens, spec.generated_tokens)
            generation = Generation.of(model, example, *amounts)
            recorded = record_generation(generation, graph, device)
        passes = RankPasses(model, tape, graph, schedule, world, device, seed)
        stack.callback(passes.close)
        yield RankServing(passes, generation, recorded, world, example_inputs, count)
