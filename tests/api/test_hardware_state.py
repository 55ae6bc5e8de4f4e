"""The state that is planned for: given before read before as new."""

from __future__ import annotations

import dataclasses

import pytest

import remora
from remora.api import planning
from remora.api.hardware import find_hardware
from remora.api.hardware_state import StateLike, find_state, in_state
from remora.cost_models.roofline import roofline_costs
from remora.errors import InvalidInputError, UnknownNameError
from remora.hardware import live
from remora.hardware.hardware import HardwareState
from remora.report.hardware_words import state_sentence
from tests.api.small_models import make_stack, small_plan

HARDWARE = find_hardware("rtx3090")


def test_without_a_word_the_hardware_stays_as_it_is() -> None:
    assert find_state(HARDWARE, None, live=False) is HARDWARE
    assert find_state(HARDWARE, {}, live=False) is HARDWARE


@pytest.mark.parametrize(
    ("free", "expected"),
    [("6GiB", 6 * 2**30), (1000, 1000), ("75%", int(0.75 * HARDWARE.memory_bytes))],
)
def test_what_is_given_takes_its_place(free: int | str, expected: int) -> None:
    found = find_state(HARDWARE, {"free_memory": free, "link_share": 0.5}, live=False)
    assert found.state == HardwareState(expected, 1.0, 0.5)


def test_what_is_given_goes_before_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "live_state", lambda hardware, again: HardwareState(99, 0.4, 0.3))
    read = find_state(HARDWARE, None, live=True)
    assert read.state == HardwareState(99, 0.4, 0.3)
    given = find_state(HARDWARE, {"host_link_share": 0.9}, live=True)
    assert given.state == HardwareState(99, 0.9, 0.3)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"host_link_share": 0}, "host_link_share is 0, allowed: a number above 0 and up to 1"),
        ({"link_share": 1.01}, "link_share is 1.01, allowed: a number above 0 and up to 1"),
        ({"link_share": float("nan")}, "link_share is nan"),
        ({"link_share": "half"}, "link_share is 'half'"),
        (HardwareState(5, host_link_share=-1.0), "host_link_share is -1.0"),
        ({"free_memory": "1TiB"}, "free_memory is '1TiB', allowed: bytes such as 6GiB"),
        ({"free_memory": "range:0.5"}, "free_memory is 'range:0.5'"),
        ({"free_memory": "120%"}, "free_memory is '120%'"),
        ({"free_memory": "much"}, "free_memory is 'much'"),
    ],
)
def test_what_no_hardware_has_is_refused(state: StateLike, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"hardware.state.{message}"):
        find_state(HARDWARE, state, live=False)


def test_another_key_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'link_share'"):
        find_state(HARDWARE, {"linkshare": 0.5}, live=False)


def test_a_problem_in_another_state_is_the_one_that_is_made_for_it() -> None:
    problem = small_plan().problem
    for share in (0.5, 0.25):
        problem = in_state(problem, find_state(HARDWARE, {"host_link_share": share}, live=False))
        anew = roofline_costs(problem.graph, problem.hardware, problem.optimizer.name)
        assert problem.cost == anew


def test_optimize_plans_for_the_state_that_is_given() -> None:
    model, inputs = make_stack()
    state = {"free_memory": "1GiB", "host_link_share": 0.5}
    plan = remora.optimize(model, inputs, hardware="rtx3090", agent="greedy", state=state)
    assert plan.budget_bytes == int(0.95 * 2**30)
    assert plan.problem.cost.d2h_bytes_per_s == 0.5 * HARDWARE.host.d2h_bytes_per_s
    assert "Planned for 1.00 GiB free of" in plan.content().hardware_state


def test_optimize_reads_the_state_of_this_machine_and_leaves_that_of_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = small_plan().problem.graph
    seen: list[bool] = []

    def note(hardware: object, state: object, live: bool) -> object:
        seen.append(live)
        return hardware

    monkeypatch.setattr(planning, "find_state", note)
    monkeypatch.setattr(planning, "find_hardware", lambda hardware, host_pool: HARDWARE)
    monkeypatch.setattr(planning, "is_local", lambda hardware: True)
    for hardware in ("local", HARDWARE):
        request = planning.Request(hardware=hardware, cost_model="roofline")
        planning.state_problem({1: graph}, request)
    assert seen == [True, False]


def test_the_sentence_names_what_matters() -> None:
    hardware = find_state(HARDWARE, {"free_memory": "6GiB", "host_link_share": 0.62}, live=False)
    alone = state_sentence(hardware)
    assert alone.startswith("Planned for 6.00 GiB free of ")
    assert alone.endswith("host link at 62 % of nominal.")
    assert state_sentence(hardware, 2).endswith("device links at 100 % of nominal.")
    pool = dataclasses.replace(hardware.host, pool="none")
    assert "link" not in state_sentence(dataclasses.replace(hardware, host=pool))
    assert state_sentence(HARDWARE) == ""
