"""Lower a schedule to a program: what runs when, and which buffers live from where to where."""

from __future__ import annotations

from collections.abc import Mapping

from remora.graph.model_graph import PARAMETER, ModelGraph
from remora.schedule.builder import ProgramBuilder
from remora.schedule.micro_batch import lower_micro_batch
from remora.schedule.problem import OptimizerSpec, Problem
from remora.schedule.program import InstructionKind, MemoryKind, Program
from remora.schedule.schedule import Schedule


def lower(problem: Problem, schedule: Schedule) -> Program:
    """Lower a valid single-device schedule.

    The step is: every micro-batch forward and backward, the optimizer step, and the release of all
    gradients. Optimizer state exists before it begins.
    """
    chain = problem.chains[schedule.pipeline.micro_batches]
    builder = ProgramBuilder(problem.hardware.copies_overlap)
    for micro_batch in range(schedule.pipeline.micro_batches):
        lower_micro_batch(builder, chain, schedule.memory, micro_batch)
    if problem.optimizer.counted:
        builder.compute(
            InstructionKind.OPTIMIZER,
            unit=-1,
            micro_batch=schedule.pipeline.micro_batches - 1,
            duration_s=problem.cost.optimizer_time_s,
            transient_bytes=step_temporary_bytes(chain.graph, problem),
            releases=builder.gradients(),
        )
    else:
        builder.release_at_end(builder.gradients())
    resident = resident_bytes(chain.graph, problem.optimizer, schedule.pipeline.micro_batches)
    return builder.program((resident,))


def resident_bytes(
    graph: ModelGraph, optimizer: OptimizerSpec, micro_batches: int
) -> Mapping[MemoryKind, int]:
    """Bytes that last the whole step: weights and buffers, the batch, optimizer state."""
    return {
        MemoryKind.WEIGHTS: graph.parameter_bytes + graph.buffer_bytes,
        MemoryKind.BATCH: graph.input_bytes * micro_batches,
        MemoryKind.OPTIMIZER: optimizer.state_per_parameter * graph.gradient_bytes,
    }


def step_temporary_bytes(graph: ModelGraph, problem: Problem) -> int:
    """Temporaries of the optimizer step.

    On CUDA PyTorch's optimizers handle all parameters at once and take one temporary of their
    total size; elsewhere they go parameter by parameter.
    """
    spec = problem.optimizer
    if not spec.step_temporaries:
        return 0
    if problem.hardware.device_type == "cuda":
        return graph.gradient_bytes
    sizes = [s.num_bytes for s in graph.storages if s.role == PARAMETER]
    return spec.step_temporaries * max(sizes, default=0)
