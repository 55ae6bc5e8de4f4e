"""One call from a model and a budget to a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from remora.api.budget import parse_budget
from remora.api.call_checks import check_call
from remora.api.compiling import announce_compiling
from remora.api.cost_model_choice import (
    AUTO,
    PROFILED,
    ROOFLINE,
    CostChoice,
    choose_cost_model,
    cost_model_of,
)
from remora.api.costs import make_costs
from remora.api.hardware import find_hardware, is_local
from remora.api.hardware_state import StateLike, find_state
from remora.api.plan import Plan
from remora.api.problem import find_optimizer, make_problem
from remora.api.request import Progress, Request, check_request
from remora.api.search import Found, found_within_bound, search
from remora.api.variants import TracedVariant, traced_variants, with_variants
from remora.graph.batch import batch_of, with_batch
from remora.graph.evaluating import evaluating
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.report.content import CandidateRow
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.problem import CostTable, Problem
from remora.simulator.bounds import lower_bound_s
from remora.simulator.records import Estimate
from remora.zoo import Example

if TYPE_CHECKING:
    from torch import nn

    from remora.api.model_source import ModelSource

__all__ = [
    "Progress",
    "Request",
    "check_request",
    "known_hardware",
    "make_plan",
    "optimize",
    "state_problem",
    "state_variants",
    "traced_graphs",
]


def optimize(  # noqa: PLR0913 - one call takes what there is to say
    model: nn.Module,
    example_inputs: ExampleInputs,
    memory: int | str | None = None,
    *,
    loss: LossFunction | None = None,
    optimizer: str | None = "adamw",
    hardware: str | Mapping[str, Any] | Hardware = "local",
    world_size: int = 1,
    micro_batches: int | None = None,
    move_state: bool | None = None,
    tensor_degree: int | None = None,
    global_batch: bool | None = None,
    agent: str = "best",
    time_limit_s: float = 10.0,
    units: Sequence[str] | None = None,
    cost_model: str = "auto",
    host_pool: str | None = None,
    cost_model_weights: str | None = None,
    state: StateLike = None,
    mode: str = "train",
    prompt_tokens: int | None = None,
    generated_tokens: int = 0,
    precisions: Sequence[str] = (),
) -> Plan:
    """Find the fastest schedule of a training step, or of a pass of inference, within a budget.

    Args:
        model: the module in the mode in which it will run (in inference that is evaluation mode,
            whatever its mode is now); it is not run and not changed.
        example_inputs: one batch, as a tuple of positional or a mapping of keyword arguments.
        memory: budget per device: bytes, ``"8GiB"``, ``"60%"`` of the keep-all peak, or
            ``"range:0.4"`` between the smallest peak by recomputation (0) and the keep-all
            peak (1) of the fullest device. None takes the free device memory less 5 %.
        loss: function of the output that returns a scalar. By default ``output.loss``, else the
            sum of squares of the float outputs.
        optimizer: ``adamw``, ``adam``, ``sgd_momentum``, ``sgd``, or None to leave it out of the
            count.
        hardware: ``"local"``, a name of ``remora/conf/hardware``, or a record.
        world_size: number of devices; a plan for several runs by ``plan.on_ranks``.
        micro_batches: number of parts that the batch is cut into; None leaves it open.
        move_state: whether weights, gradients and optimizer state may be sharded or wait on the
            host. None for yes on several devices and in inference, and no on one.
        tensor_degree: ranks that share every layer; None tries all within a node that the model's
            tensor-parallel plan allows (on this machine: 1).
        global_batch: whether the batch is that of all data-parallel replicas together, so that
            their number is part of the plan, and not that of one of them. None for yes on several
            nodes.
        agent: name of the scheduler.
        time_limit_s: seconds of its search.
        units: module paths that begin units, instead of those found.
        cost_model: ``auto``, ``profiled`` (measures operators on this machine), ``gnn`` (learned)
            or ``roofline``.
        host_pool: overrides where offloaded tensors go: ``pinned``, ``emulated`` or ``none``.
        cost_model_weights: folder of a trained ``gnn`` instead of the one in the package.
        state: state of the hardware instead of the one that is read (``"local"``) or as new: some
            of ``free_memory`` (``"6GiB"``, ``"75%"``), ``host_link_share`` and ``link_share``
            (above 0, up to 1).
        mode: ``train``, or ``inference`` for passes without gradients, loss and optimizer.
        prompt_tokens: of one sequence, for the keys and values that a decoder keeps; None for
            those of the example.
        generated_tokens: of one sequence, likewise.
        precisions: in which units may compute besides the model's own, some of ``bf16``,
            ``int8`` and ``fp8`` where the device has them; it changes loss and gradients a
            little. In inference ``int8``, for the weights.

    Returns:
        The plan, with predicted figures, ready to apply.

    Raises:
        UsageError: an argument is not allowed.
        TraceError, ModelRunError: the model could not be traced, or failed on its batch.
        InfeasibleError: nothing fits; carries the smallest budget that does.
        TimeLimitError: nothing was found in time.
    """
    check_call(model, loss, mode, {"units": units, "precisions": precisions})
    request = Request(
        memory=memory,
        optimizer=optimizer,
        hardware=hardware,
        host_pool=host_pool,
        world_size=world_size,
        micro_batches=micro_batches,
        move_state=move_state,
        tensor_degree=tensor_degree,
        global_batch=global_batch,
        agent=agent,
        time_limit_s=time_limit_s,
        cost_model=cost_model,
        cost_model_weights=cost_model_weights,
        state=state,
        mode=mode,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated_tokens,
        precisions=tuple(precisions),
    )
    check_request(request)
    example = Example(model, example_inputs, loss)
    passes = request.mode == Mode.INFERENCE
    with evaluating(model) if passes else contextlib.nullcontext():
        traced = traced_variants(example, request, known_hardware(request), units)
        problem = state_variants(traced, request, example=example)
    chosen_units = None if units is None else tuple(units)
    return make_plan(problem, request, loss=loss, units=chosen_units)


def traced_graphs(
    example: Example, request: Request, units: Sequence[str] | None = None, model_name: str = ""
) -> dict[int, ModelGraph]:
    """Trace a step of the example batch, whole and in the micro-batches that the request needs.

    Args:
        example: the model and one batch.
        request: its world size and number of micro-batches.
        units: module paths that begin units.
        model_name: kept in the graphs.

    Returns:
        Graphs by number of micro-batches.

    Raises:
        InvalidInputError: the number of micro-batches does not divide the batch.
        TraceError, ModelRunError: the model could not be traced, or failed on its batch.
    """
    degree = 1 if request.tensor_degree is None else request.tensor_degree
    request = replace(request, tensor_degree=degree, global_batch=False, precisions=())
    return dict(traced_variants(example, request, None, units, model_name)[0].graphs)


def known_hardware(request: Request) -> Hardware | None:
    """The hardware that is planned for; None for this machine, which is not measured here."""
    local = is_local(request.hardware)
    return None if local else find_hardware(request.hardware, request.host_pool)


def state_variants(
    traced: Sequence[TracedVariant],
    request: Request,
    progress: Progress | None = None,
    example: Example | None = None,
) -> Problem:
    """Measure or predict costs of every variant and resolve the budget, by that of the first.

    Args:
        traced: what :func:`traced_variants` returned.
        request: what to plan for.
        progress: told when pieces of work begin.
        example: the model for real, if it is at hand; see :func:`make_costs`.

    Raises:
        UsageError: a value of the request is not allowed.
    """
    first, *others = traced
    problem = state_problem(
        first.graphs, request, progress, example, first.replicas, first.inference
    )
    if not others:
        return problem
    hardware, weights = problem.hardware, request.cost_model_weights
    choice = cost_choice(request, hardware)

    def price(graph: ModelGraph, count: int) -> CostTable:
        # Only with units in fewer bits can another graph than the first be run by this process.
        real = _part_of(example, count) if graph.precisions and graph.tensor_degree == 1 else None
        return make_costs(graph, hardware, problem.optimizer, choice.name, real, weights)

    return with_variants(problem, others, price)


def state_problem(
    graphs: Mapping[int, ModelGraph],
    request: Request,
    progress: Progress | None = None,
    example: Example | None = None,
    replicas: int | None = None,
    inference: InferenceSpec | None = None,
) -> Problem:
    """Measure or predict costs and resolve the budget.

    Args:
        graphs: the traced step by number of micro-batches, among them 1.
        request: what to plan for.
        progress: told when pieces of work begin.
        example: the model for real, if it is at hand; see :func:`make_costs`.
        replicas: the only number of data-parallel replicas, or None.
        inference: tokens and cache, for graphs of passes.

    Raises:
        UsageError: a value of the request is not allowed.
    """
    progress = progress or Progress()
    check_request(request)
    optimizer = find_optimizer(None if inference is not None else request.optimizer)
    local = is_local(request.hardware)
    if local:
        progress.stage("measuring this machine")
    hardware = find_hardware(request.hardware, request.host_pool)
    # A record of this machine comes in the state that its owner wants.
    live = local and not isinstance(request.hardware, Hardware)
    hardware = find_state(hardware, request.state, live)
    choice = cost_choice(request, hardware)
    if choice.name == PROFILED:
        progress.stage("measuring the model's operators")
    weights = request.cost_model_weights
    costs = {
        count: make_costs(
            graph, hardware, optimizer, choice.name, _part_of(example, count), weights
        )
        for count, graph in graphs.items()
    }
    announce_compiling()
    progress.stage("finding the smallest peak")
    budget = parse_budget(request.memory)
    problem = make_problem(
        graphs,
        costs,
        hardware,
        optimizer,
        budget,
        request.world_size,
        request.micro_batches,
        replicas,
        inference,
    )
    return replace(
        problem, allow_lossy=request.allow_lossy, state_on_device=not request.moves_state
    )


def make_plan(
    problem: Problem,
    request: Request,
    *,
    progress: Progress | None = None,
    loss: LossFunction | None = None,
    units: tuple[str, ...] | None = None,
    source: ModelSource | None = None,
) -> Plan:
    """Search a schedule for a problem and put the plan together.

    Args:
        problem: what to plan.
        request: names the scheduler, its settings and its time limit.
        progress: told of every candidate.
        loss: kept in the plan.
        units: kept in the plan.
        source: kept in the plan.
    """
    progress = progress or Progress()
    progress.stage(f"searching with {request.agent}")
    found, estimate = search_within_bound(problem, request, progress.candidate)
    variant = problem.variant_of(found.schedule)
    return Plan(
        problem=replace(variant, variants=()) if variant.variants else variant,
        schedule=found.schedule,
        estimate=estimate,
        lower_bound_s=lower_bound_s(problem),
        candidates=found.candidates,
        agent=request.agent,
        search_s=found.search_s,
        units=units,
        loss=loss,
        source=source,
        cost_reason=cost_choice(request, problem.hardware).reason,
    )


def cost_choice(request: Request, hardware: Hardware) -> CostChoice:
    """Which cost model the request means for a hardware, and why."""
    local = is_local(request.hardware)
    if request.mode == Mode.INFERENCE and request.cost_model == AUTO and not local:
        return CostChoice(
            ROOFLINE,
            f"since {hardware.name} is not at hand to be measured, and the learned cost model has "
            "seen steps of training only",
        )
    return choose_cost_model(
        request.cost_model,
        request.cost_model_weights,
        local,
        hardware.device_type,
        hardware.name,
    )


def search_within_bound(
    problem: Problem, request: Request, listener: Callable[[CandidateRow], None]
) -> tuple[Found, Estimate]:
    """Search a schedule whose upper bound on the peak, not only the peak, is within the budget.

    Args:
        problem: what to plan.
        request: names the scheduler, its settings and its time limit.
        listener: is told every candidate.

    Raises:
        InfeasibleError: nothing fits.
        TimeLimitError: nothing was found in time.
    """
    cost_model = cost_model_of(problem.cost.source, request.cost_model_weights)

    def propose(lowered: Problem) -> Found:
        return search(
            lowered, request.agent, request.time_limit_s, request.agent_settings, listener
        )

    return found_within_bound(problem, cost_model, propose)


def _part_of(example: Example | None, count: int) -> Example | None:
    """The example with one of ``count`` micro-batches."""
    if example is None or count == 1:
        return example
    inputs = example.example_inputs
    return example._replace(example_inputs=with_batch(inputs, batch_of(inputs) // count))
