"""A schedule survives JSON; what cannot be trusted is refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.errors import FileFormatError
from remora.schedule.menu import keep_all_schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from tests.problems import toy_graph
from tests.schedule.plans import random_schedule


@given(seed=st.integers(0, 10_000))
def test_round_trip_is_equal(seed: int) -> None:
    schedule = random_schedule(toy_graph(), seed)
    assert schedule_from_json(schedule_to_json(schedule)) == schedule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, r"version is 99; allowed: 1 to 2; it was written by a newer"),
        ({"version": None}, r"version is None; allowed: 1 to 2"),
        ({"memory": {}}, "options"),
        ({"pipeline": {"kind": "spiral", "cuts": [], "chunks": 1, "micro_batches": 1}}, "spiral"),
        ({"state": {"_target_": "os.system"}}, "_target_"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], message: str) -> None:
    content = json.loads(schedule_to_json(keep_all_schedule(toy_graph()))) | change
    with pytest.raises(FileFormatError, match=message):
        schedule_from_json(json.dumps(content))


def test_a_file_cut_short_is_named() -> None:
    text = schedule_to_json(keep_all_schedule(toy_graph()))
    with pytest.raises(FileFormatError, match="cut short"):
        schedule_from_json(text[:-10])


def test_a_schedule_of_another_model_is_named() -> None:
    text = schedule_to_json(keep_all_schedule(toy_graph()))
    with pytest.raises(FileFormatError, match="another model or batch"):
        schedule_from_json(text, expected_graph_hash="0" * 16)
