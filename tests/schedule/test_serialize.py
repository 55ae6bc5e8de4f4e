"""A schedule survives JSON; what cannot be trusted is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.errors import FileFormatError
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import Group
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
        ({"version": 99}, r"version is 99; allowed: 1 to 4; it was written by a newer"),
        ({"version": None}, r"version is None; allowed: 1 to 4"),
        ({"memory": {}}, "options"),
        ({"pipeline": {"kind": "spiral", "cuts": [], "chunks": 1, "micro_batches": 1}}, "spiral"),
        ({"state": {"_target_": "os.system"}}, "_target_"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], message: str) -> None:
    content = json.loads(schedule_to_json(keep_all_schedule(toy_graph()))) | change
    with pytest.raises(FileFormatError, match=message):
        schedule_from_json(json.dumps(content))


def garbled(path: str, value: object) -> str:
    """A schedule with groups whose field at ``path`` is set to ``value``."""
    memory = keep_all_schedule(toy_graph()).memory
    memory = dataclasses.replace(memory, groups=(Group(0, 2),))
    text = schedule_to_json(dataclasses.replace(keep_all_schedule(toy_graph()), memory=memory))
    content = json.loads(text)
    *way, last = path.split(".")
    at = content
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("memory.options.1.0.1", "forget", "options has 'forget'; allowed: 'keep', 'recompute'"),
        ("memory.groups.0.checkpoint", "lose", "checkpoint has 'lose'; allowed: 'keep'"),
        ("memory.groups.0.start", 0.5, "start has 0.5; allowed: integers"),
        ("memory.groups.0.inner", [], "groups has a field 'inner'; allowed: start, end"),
        ("memory.offload_window", 2.5, "offload_window has 2.5; allowed: integers"),
        ("memory.paces", [[1, 2, 3]], "too many values"),
        ("memory.paces", [["1", 2]], "paces has '1'; allowed: integers"),
        ("pipeline.kind", "2f2b", "kind has '2f2b'; allowed: 'none', 'gpipe', '1f1b'"),
        ("pipeline.cuts", [1.0], "cuts has 1.0; allowed: integers"),
        ("pipeline.micro_batches", True, "micro_batches has True; allowed: integers"),
        ("state.optimizer", "4bit", "optimizer has '4bit'; allowed: 'device', 'host', '8bit'"),
        ("state.zero_stage", "2", "zero_stage has '2'; allowed: integers"),
        ("state.zero", 2, "state has a field 'zero'; allowed: weights, gradients"),
        ("extra", 1, "the schedule has a field 'extra'; allowed: version, graph_hash"),
    ],
)
def test_a_garbled_value_is_named_with_what_is_allowed(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(FileFormatError, match=message):
        schedule_from_json(garbled(path, value))


def test_the_first_version_had_fewer_fields() -> None:
    schedule = keep_all_schedule(toy_graph())
    content = json.loads(schedule_to_json(schedule)) | {"version": 1}
    del content["memory"]["paces"]
    del content["state"]["streamed_units"]
    assert schedule_from_json(json.dumps(content)) == schedule


def test_a_file_cut_short_is_named() -> None:
    text = schedule_to_json(keep_all_schedule(toy_graph()))
    with pytest.raises(FileFormatError, match="cut short"):
        schedule_from_json(text[:-10])


def test_a_schedule_of_another_model_is_named() -> None:
    text = schedule_to_json(keep_all_schedule(toy_graph()))
    with pytest.raises(FileFormatError, match="another model or batch"):
        schedule_from_json(text, expected_graph_hash="0" * 16)
