from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from remora.api.model_source import ModelSource
from remora.api.verify_process import VerifyJob, request_values, verify_in_process
from remora.api.verify_worker import answer_request
from remora.errors import ModelRunError
from remora.schedule.program import InstructionKind
from tests.api.small_models import small_plan

MODULE = "tests.api.small_models"
LIMIT_S = 250.0


def _job(function: str = "make_stack", **values: int) -> VerifyJob:
    plan = small_plan()
    return VerifyJob(
        source=ModelSource("custom", f"{MODULE}:{function}", values),
        schedule=plan.schedule,
        budget_bytes=2**30,
        estimate=dataclasses.replace(plan.estimate, peak_bound_bytes=2**30),
        optimizer="adamw",
    )


def test_a_schedule_is_verified_in_a_process_of_its_own() -> None:
    verification = verify_in_process(_job(), LIMIT_S)
    assert verification.passed
    assert verification.measurement.status == "ok"
    assert verification.measurement.peak_memory_bytes > 0
    assert verification.timeline is not None
    assert verification.timeline.peak_bytes == (verification.measurement.peak_memory_bytes,)
    units = range(len(small_plan().problem.graph.units))
    events = [event.instruction for event in verification.timeline.events]
    forwards = [event.unit for event in events if event.kind is InstructionKind.FORWARD]
    backwards = [event.unit for event in events if event.kind is InstructionKind.BACKWARD]
    assert forwards == [*units]
    assert backwards == [*reversed(units)]


def test_a_process_that_is_killed_is_a_result() -> None:
    verification = verify_in_process(_job("make_dying"), LIMIT_S)
    assert verification.failures == ("run_failed",)
    assert verification.measurement.status == "out_of_memory"


def test_a_process_that_takes_too_long_is_a_result() -> None:
    verification = verify_in_process(_job(), 0.05)
    assert verification.measurement.status == "timed_out"
    assert "longer than 0.05 s" in verification.detail


def _answer(job: VerifyJob) -> dict[str, Any]:
    return answer_request(request_values(job))


def test_a_schedule_of_another_model_is_refused() -> None:
    answer = _answer(_job(depth=5))
    assert answer["kind"] == "usage"
    assert "another model, batch or loss" in answer["message"]


def test_errors_of_the_model_cross_the_border() -> None:
    job = _job("make_nothing")
    answer = _answer(job)
    assert answer["kind"] == "model"
    assert answer["own_error"][-1] == "KeyError: 'no such weights'"
    with pytest.raises(ModelRunError, match="no such weights") as caught:
        verify_in_process(job, LIMIT_S)
    assert caught.value.__notes__[-1] == "KeyError: 'no such weights'"
