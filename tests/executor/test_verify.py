"""The verdict on a schedule: one flag per possible failure, and a model left as it was."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.memory import runtime
from remora.executor.memory.region import SavedHandle
from remora.executor.verdict import BUDGET_SLACK
from remora.executor.verify import verify
from remora.report.verdict_words import verdict_sentence
from remora.schedule.schedule import Action, PipelinePlan
from remora.simulator.records import Estimate, Verification
from tests.executor.memory.plans import schedule
from tests.executor.memory.toys import Chain, chain


def _run(
    model: nn.Module, inputs: Any, graph: Any, plan: Any = None, **options: Any
) -> Verification:
    plan = schedule(graph, Action.RECOMPUTE) if plan is None else plan
    return verify(model, inputs, None, graph, plan, repetitions=3, **options)


def _estimate(peak_bytes: int, step_time_s: float = 1.0) -> Estimate:
    return Estimate(step_time_s, peak_bytes, (peak_bytes,), peak_bytes, 0.0, {}, 0, "test")


def test_a_lossless_schedule_passes() -> None:
    model, inputs, graph = chain(3)
    verdict = _run(model, inputs, graph)
    assert verdict.passed
    assert verdict.failures == ()
    assert verdict.worst_gradient == ""
    assert verdict.measurement.status == "ok"
    assert verdict.measurement.peak_memory_bytes > 0


def test_the_model_is_left_as_it_was() -> None:
    model, inputs, graph = chain(3)
    model(*inputs).sum().backward()
    values = [p.detach().clone() for p in model.parameters()]
    gradients = [p.grad for p in model.parameters()]
    random_state = torch.get_rng_state()
    _run(model, inputs, graph)
    assert all(map(torch.equal, values, model.parameters()))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all("forward" not in vars(module) for module in model.modules())


def test_peak_above_budget_and_bound() -> None:
    model, inputs, graph = chain(3)
    peak_bytes = _run(model, inputs, graph).measurement.peak_memory_bytes
    fits = _run(model, inputs, graph, budget_bytes=peak_bytes, estimate=_estimate(peak_bytes))
    assert fits.passed
    below = int(peak_bytes / (1 + BUDGET_SLACK)) - 1
    verdict = _run(model, inputs, graph, budget_bytes=below, estimate=_estimate(peak_bytes // 2))
    assert verdict.failures == ("over_budget", "over_bound")


def test_a_wrong_time_is_a_remark_and_no_failure() -> None:
    model, inputs, graph = chain(3)
    verdict = _run(model, inputs, graph, estimate=_estimate(1 << 30, step_time_s=1e6))
    assert verdict.time_off
    assert verdict.passed


def test_wrong_gradients_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, graph = chain(3)
    fill = SavedHandle.fill

    def spoil(self: SavedHandle, tensor: Tensor) -> None:
        fill(self, tensor * 1.001 if tensor.is_floating_point() else tensor)

    monkeypatch.setattr(SavedHandle, "fill", spoil)
    verdict = _run(model, inputs, graph)
    assert "gradients_differ" in verdict.failures
    assert verdict.worst_gradient.startswith("blocks.")
    assert 1e-4 < verdict.max_gradient_difference < 1e-1


def test_a_shifted_random_state_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, graph = chain(3)
    replay = runtime.replay

    def shift(*args: Any) -> None:
        replay(*args)
        torch.rand(())

    monkeypatch.setattr(runtime, "replay", shift)
    assert "random_state_differs" in _run(model, inputs, graph).failures


class Moody(Chain):
    """Fails while a plan is applied to it."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if "forward" in vars(self):
            raise ValueError("not under a plan")
        return super().forward(x, mask)


def test_a_run_that_dies_is_recorded() -> None:
    model, inputs, graph = chain(3)
    model.__class__ = Moody
    verdict = _run(model, inputs, graph)
    assert verdict.failures == ("run_failed",)
    assert verdict.detail == "ValueError: not under a plan"
    assert "forward" not in vars(model)


class Tiring(Chain):
    """Scales its output a little from its second run under the same plan on."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        output = super().forward(x, mask)
        wrapper = vars(self).get("forward")
        first, self.known = wrapper is not self.known, wrapper
        return output if wrapper is None or first else output * 1.01

    known: object = None


@pytest.mark.parametrize("optimizer", ["adamw", "sgd_momentum", "none"])
def test_steps_that_go_wrong_later_are_found_by_the_parameters(optimizer: str) -> None:
    model, inputs, graph = chain(3)
    model.__class__ = Tiring
    verdict = _run(model, inputs, graph, optimizer_name=optimizer)
    assert verdict.failures == ("parameters_differ",)
    assert verdict.max_gradient_difference == 0
    assert verdict.worst_parameter.startswith("blocks.")
    assert 0 < verdict.max_parameter_difference < 1e-2
    assert f"(worst parameter: {verdict.worst_parameter}, by" in verdict_sentence(verdict)


def test_several_micro_batches_are_refused() -> None:
    model, inputs, graph = chain(2)
    plan = dataclasses.replace(schedule(graph), pipeline=PipelinePlan(micro_batches=2))
    with pytest.raises(InvalidInputError, match="micro_batches is 2"):
        _run(model, inputs, graph, plan)
