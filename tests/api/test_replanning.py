"""From a plan to one for the hardware as it is now, by the Python call."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import remora
from remora.api import replanning
from remora.api.plan import Plan
from remora.api.replanning import replan_and_compare
from remora.errors import FileFormatError, InfeasibleError, InvalidInputError
from remora.hardware.hardware import HardwareState
from tests.api.small_models import make_stack, small_plan

SLOW = {"host_link_share": 0.05}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan()


def test_a_slower_link_changes_what_is_moved(plan: Plan) -> None:
    result = replan_and_compare(plan, state=SLOW)
    new = result.plan
    assert new.schedule != plan.schedule
    assert result.present_fits
    assert new.estimate.step_time_s < result.present.step_time_s
    assert new.lower_bound_s <= new.estimate.step_time_s
    assert new.budget_bytes == plan.budget_bytes >= new.estimate.peak_memory_bytes
    assert [(row.name, row.chosen) for row in new.candidates] == [
        ("present plan", False),
        ("replan", True),
    ]


def test_nothing_changes_where_nothing_changed(plan: Plan) -> None:
    again = remora.replan(plan)
    assert again.schedule == plan.schedule
    assert again.estimate == plan.estimate


def test_a_smaller_budget_is_kept() -> None:
    roomy = small_plan("range:1")
    for memory in ("range:0.5", 2**20):
        result = replan_and_compare(roomy, memory)
        assert not result.present_fits
        new = result.plan
        assert new.estimate.peak_memory_bytes <= new.budget_bytes < roomy.budget_bytes


def test_the_budget_is_what_is_free_of_the_old_one(plan: Plan) -> None:
    free = int(plan.budget_bytes / 0.97)
    less = remora.replan(plan, state={"free_memory": free})
    assert less.budget_bytes == int(0.95 * free) < plan.budget_bytes
    assert remora.replan(less, state={"free_memory": "1GiB"}).budget_bytes == int(0.95 * 2**30)
    fixed = remora.replan(plan, state={"free_memory": "1GiB"})
    assert fixed.budget_bytes == plan.budget_bytes


def test_the_state_of_this_machine_is_read(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from remora.hardware import live

    monkeypatch.setattr(replanning, "is_local", lambda hardware: True)
    monkeypatch.setattr(live, "live_state", lambda hardware, again: HardwareState(2**30, 0.05))
    assert remora.replan(plan).problem.hardware.state == HardwareState(2**30, 0.05)


def test_steps_lead_where_one_leads(plan: Plan) -> None:
    there = remora.replan(plan, state=SLOW)
    back = remora.replan(there, state={"host_link_share": 1.0})
    assert back.problem.cost == plan.problem.cost
    assert back.estimate.step_time_s <= 1.005 * plan.estimate.step_time_s


def test_a_saved_plan_is_replanned_and_saved_again(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "a")
    new = remora.replan(tmp_path / "a", state=SLOW)
    new.save(tmp_path / "b")
    assert remora.load(tmp_path / "b") == new
    assert remora.replan(tmp_path / "a" / "schedule.json", state=SLOW).schedule == new.schedule


def test_a_running_plan_is_exchanged(plan: Plan) -> None:
    gradients = []
    for changed in (False, True):
        model, inputs = make_stack()
        handle = plan.apply(model)
        if changed:
            handle.update(remora.replan(plan, state=SLOW))
        torch.manual_seed(1)
        model(*inputs).square().sum().backward()
        handle.remove()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *gradients))


def test_nothing_that_fits_is_an_error_that_says_what_would(plan: Plan) -> None:
    with pytest.raises(InfeasibleError, match="scope=all may also change pipeline") as caught:
        remora.replan(plan, "1KiB")
    smallest = caught.value.smallest_budget_bytes
    assert smallest is not None
    assert remora.replan(plan, smallest).estimate.peak_memory_bytes <= smallest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scope": "some"}, "scope is 'some', allowed: options, all"),
        ({"time_limit_s": 0}, "time_limit_s is 0"),
        ({"memory": "5XB"}, "memory is '5XB', allowed"),
        ({"state": {"link_share": 2}}, r"hardware\.state\.link_share is 2, allowed"),
    ],
)
def test_what_is_not_allowed_is_refused(
    plan: Plan, values: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        remora.replan(plan, **values)


def test_files_that_are_not_of_a_plan_are_named(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="there is no estimate file"):
        remora.replan(tmp_path)
    other = dataclasses.replace(plan.schedule, graph_hash="0" * 8)
    dataclasses.replace(plan, schedule=other).save(tmp_path / "a")
    plan.save(tmp_path / "b")
    (tmp_path / "a" / "schedule.json").replace(tmp_path / "b" / "schedule.json")
    with pytest.raises(FileFormatError, match=r"schedule\.json.*another model"):
        remora.replan(tmp_path / "b")
