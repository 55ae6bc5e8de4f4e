"""What the card says, against figures that were computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from remora.cost_models.dataset.card import dataset_card
from remora.cost_models.dataset.card_values import card_values
from remora.cost_models.dataset.dataset import dataset_of
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.repeatability import repeatability, spread_within
from remora.cost_models.dataset.schema import COLUMNS
from tests.cost_models.dataset.runs import run_of, setting, step_row, unit_row


def round_of(number: int, unit_s: float, steps_s: tuple[float, ...], **values: Any) -> ProfiledRun:
    """A run with one unit kind that takes ``unit_s`` and one step per time."""
    steps = [
        step_row(f"plan {index}", (time_s,), 1000 + 100 * number * index)
        for index, time_s in enumerate(steps_s)
    ]
    units = (unit_row("kind", 0, ((unit_s / 4,), (3 * unit_s / 4,))),)
    run = run_of(round_=number, units=units, steps=tuple(steps))
    return replace(run, **values)


def test_rounds_are_compared_with_each_other() -> None:
    found = repeatability([round_of(0, 1.0, (4.0, 2.0)), round_of(1, 1.25, (5.0, 3.0))])
    assert found.pairs == 1
    assert (found.unit_time.count, found.unit_time.median) == (1, pytest.approx(0.25))
    assert (found.step_time.count, found.step_time.median) == (2, pytest.approx(0.375))
    assert found.step_time.p90 == pytest.approx(0.5)
    assert found.peak_memory.median == pytest.approx(0.05)
    # Both rounds took 4 units per step under the first plan.
    assert found.step_ratio.median == pytest.approx(0.1)
    assert found.drift.median == pytest.approx(0.25)


def test_every_pair_of_rounds_counts() -> None:
    rounds = [round_of(number, 1.0 + number, (4.0,)) for number in range(3)]
    found = repeatability(rounds)
    assert (found.pairs, found.unit_time.count) == (3, 3)
    assert found.unit_time.median == pytest.approx(1.0)


def test_only_the_same_subject_in_the_same_setting_is_compared() -> None:
    rounds = [
        round_of(0, 1.0, (4.0,)),
        round_of(1, 2.0, (4.0,), setting=setting(threads=2)),
        replace(run_of(size=2), round=1),
    ]
    found = repeatability(rounds)
    assert (found.pairs, found.unit_time.count) == (0, 0)


def test_failed_steps_are_not_compared() -> None:
    failed = step_row("plan 0", (), 0, status="crashed")
    found = repeatability(
        [round_of(0, 1.0, (4.0,)), replace(round_of(1, 1.0, ()), steps=(failed,))]
    )
    assert (found.pairs, found.step_time.count, found.unit_time.count) == (1, 0, 1)


def test_spread_of_repetitions_within_a_run() -> None:
    units, steps = spread_within([run_of(steps=(step_row("a", (1.0, 2.0, 2.0, 3.0)),))])
    # Units take 0.375 and 1 s, around a median of 0.6875 s.
    assert units.median == pytest.approx(0.3125 / 0.6875)
    assert (steps.count, steps.median, steps.p90) == (4, 0.25, 0.5)


def test_the_card_counts_by_every_group() -> None:
    failed = step_row("floor", (), 0, status="crashed")
    runs = [
        run_of(),
        run_of(round_=1, units=(unit_row("kind", 0, ((1.0,), (1.0,))),)),
        run_of(size=2, steps=(*run_of().steps, failed)),
        run_of("convnet", "resnet", 1, ("one", "two"), setting=setting("gpu")),
    ]
    values = card_values(dataset_of(runs, ["a fault"]))
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    # The hand graph has a product in each of its units, and views, which do not count.
    assert values["total"] == {
        "graphs": 3,
        "unit_rows": 4,
        "units": 3,
        "operators": 3,
        "steps": 3,
        "failed_steps": 1,
    }
    assert {name: c["graphs"] for name, c in values["by_family"].items()} == {
        "convnet": 1,
        "decoder": 2,
    }
    assert set(values["by_hardware"]) == {"gpu/1", "hand/1"}
    assert values["repetitions"] == {"units": 3 + 2 + 2 + 2, "steps": 3 * 3}
    assert values["between"]["pairs"] == 1
    assert values["rounds"] == [0, 1]


def test_the_card_in_words() -> None:
    one = dataset_card(dataset_of([run_of()]), title="Runs of a test", about="Made up.")
    assert one.startswith("# Runs of a test\n")
    assert "\n\nMade up.\n\n" in one
    assert "Nothing was measured in two rounds." in one
    assert "| decoder | 1 | 1 | 1 | 1 | 1 | 0 |" in one
    assert "| hand/1 | a processor | 2.11 | 3.11 | 1 | 1000 | 100 |" in one
    assert "| time of a step, ms | 1500 | 1500 | 1500 |" in one
    for column in COLUMNS:
        assert f"| {column} |" in one
    two = dataset_card(dataset_of([run_of(), run_of(round_=1)], ["x.parquet is broken"]))
    assert "in different rounds: 1;" in two
    assert "- x.parquet is broken" in two
