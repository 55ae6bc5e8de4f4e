"""A plan put into effect: on a model here, on ranks, and beside the plain model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from remora.api.plan_checks import check_graph, check_pass_graph, check_runs_here
from remora.errors import InvalidInputError
from remora.executor.memory.install import Handle, apply
from remora.executor.passes.verify import verify_pass
from remora.executor.pipeline.passes.serving import RankServing, serving_on_ranks
from remora.executor.pipeline.rank_training import RankTraining, training_on_ranks
from remora.executor.verify import verify
from remora.graph.loss import ExampleInputs, LossFunction
from remora.schedule.inference import Mode
from remora.simulator.records import Verification

if TYPE_CHECKING:
    from torch import nn

    from remora.api.plan import Plan

__all__ = ["apply_plan", "serve_on_ranks", "train_on_ranks", "verify_plan"]


def apply_plan(plan: Plan, model: nn.Module) -> Handle:
    """Make a model run by a plan; see :meth:`remora.api.plan.Plan.apply`."""
    problem = plan.problem
    check_runs_here(plan.schedule, problem.world_size)
    if problem.mode is Mode.INFERENCE and model.training:
        raise InvalidInputError(
            "the model is in training mode; allowed for a plan of mode='inference': one in "
            "evaluation mode, see model.eval()"
        )
    return apply(
        model, problem.graph, plan.schedule, problem.hardware, allow_lossy=problem.allow_lossy
    )


def train_on_ranks(
    plan: Plan,
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    seed: int,
) -> AbstractContextManager[RankTraining]:
    """Train by a plan on this rank; see :meth:`remora.api.plan.Plan.on_ranks`."""
    if plan.problem.mode is Mode.INFERENCE:
        raise InvalidInputError(
            "the plan is of mode='inference'; allowed for on_ranks(): plans of training; passes "
            "run by serve_on_ranks()"
        )
    loss = loss or plan.loss
    device_type = plan.problem.hardware.device_type
    check_graph(plan.schedule, model, example_inputs, loss, plan.units, device_type)
    return training_on_ranks(
        model,
        example_inputs,
        loss,
        plan.problem.graphs[plan.schedule.pipeline.micro_batches],
        plan.schedule,
        device_type,
        seed=seed,
    )


def serve_on_ranks(
    plan: Plan, model: nn.Module, example_inputs: ExampleInputs, seed: int
) -> AbstractContextManager[RankServing]:
    """Run passes by a plan on this rank; see :meth:`remora.api.plan.Plan.serve_on_ranks`."""
    problem, schedule = plan.problem, plan.schedule
    if problem.inference is None:
        raise InvalidInputError(
            "the plan is of mode='train'; allowed for serve_on_ranks(): plans of inference; steps "
            "run by on_ranks()"
        )
    check_pass_graph(schedule, model, example_inputs, plan.units)
    return serving_on_ranks(
        model,
        example_inputs,
        problem.graphs[schedule.pipeline.micro_batches],
        schedule,
        problem.inference,
        problem.hardware.device_type,
        seed=seed,
    )


def verify_plan(
    plan: Plan, model: nn.Module, example_inputs: ExampleInputs, loss: LossFunction | None
) -> Verification:
    """Compare plan and plain model in a run; see :meth:`remora.api.plan.Plan.verify`."""
    problem = plan.problem
    check_runs_here(plan.schedule, problem.world_size)
    if problem.inference is not None:
        check_pass_graph(plan.schedule, model, example_inputs, plan.units)
        return verify_pass(
            model,
            example_inputs,
            problem.graph,
            plan.schedule,
            problem.inference,
            budget_bytes=plan.budget_bytes,
            estimate=plan.estimate,
        )
    loss = loss or plan.loss
    check_graph(plan.schedule, model, example_inputs, loss, plan.units)
    return verify(
        model,
        example_inputs,
        loss,
        problem.graph,
        plan.schedule,
        budget_bytes=plan.budget_bytes,
        estimate=plan.estimate,
        optimizer_name=problem.optimizer.name,
        allow_lossy=problem.allow_lossy,
    )
