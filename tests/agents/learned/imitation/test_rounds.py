"""Self-imitation: what the policy plans is polished, and only better plans are added."""

from __future__ import annotations

import dataclasses
import math

import pytest

from remora.agents.learned.imitation.lesson import Teaching
from remora.agents.learned.imitation.recorder import Emphasis, record
from remora.agents.learned.imitation.rounds import RoundConfig, improve_demonstrations
from remora.agents.learned.imitation.teachers import Translation
from remora.errors import InvalidInputError
from tests.agents.learned.imitation.lessons import lesson_at, random_demonstration, taught
from tests.agents.learned.policies import untrained

QUICK = RoundConfig(samples=4, evaluations=60, translation=Translation(rounds=4))


def _poor(*names: str) -> Teaching:
    """Lessons of which only one random plan is known."""
    lessons = tuple(lesson_at(name, 0.2) for name in names)
    return Teaching(lessons).with_more(map(random_demonstration, lessons))


def test_better_plans_are_added_and_can_be_played() -> None:
    poor = _poor("toy", "unet_tiny")
    better = improve_demonstrations(untrained(), poor, QUICK)
    assert better.shown[: len(poor.shown)] == poor.shown
    for before, after in zip(poor.lessons, better.lessons, strict=True):
        assert after.best_s < before.best_s
        assert after.best_s == min(one.step_time_s for one in better.of(after))
    assert {one.source for one in better.shown} <= {"random", "policy", "polished"}
    assert len(record(better, Emphasis(regret=1.0))) == len(better.shown)


def test_the_same_seed_finds_the_same_plans_and_what_is_no_better_is_not_added() -> None:
    poor = _poor("toy")
    better = improve_demonstrations(untrained(), poor, QUICK)
    assert better.shown == improve_demonstrations(untrained(), poor, QUICK).shown
    assert improve_demonstrations(untrained(), better, QUICK).shown == better.shown


def test_plans_that_do_not_beat_those_known_of_their_shape_are_left_out() -> None:
    known = taught("toy", "gpt2_tiny", share=0.2)
    config = dataclasses.replace(QUICK, polished=4, most_regret=10.0)
    added = improve_demonstrations(untrained(), known, config).shown[len(known.shown) :]
    times = {lesson.name: lesson.shape_times for lesson in known.lessons}
    for one in added:
        assert one.step_time_s < times[one.lesson].get(one.shape, math.inf)


def test_plans_that_come_close_on_the_ways_of_the_policy_can_be_added_too() -> None:
    known = taught("gpt2_tiny", share=0.2)
    config = dataclasses.replace(QUICK, polished=4, least_gain=-0.5, most_regret=0.5)
    more = improve_demonstrations(untrained(), known, config)
    slower = [
        one for one in more.shown[len(known.shown) :] if one.step_time_s > more.lessons[0].best_s
    ]
    assert slower
    assert more.lessons[0].best_s <= known.lessons[0].best_s


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "round.samples is 0; allowed: 1 or more"),
        ({"temperature": 0.0}, "round.temperature is 0.0; allowed: more than 0"),
        ({"least_gain": float("nan")}, "round.least_gain is nan; allowed: a number"),
    ],
)
def test_values_are_checked(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        RoundConfig(**values)  # type: ignore[arg-type]


def test_a_round_that_is_told_to_stop_keeps_what_it_has_of_the_first_lesson() -> None:
    poor = _poor("toy", "unet_tiny")
    stopped = improve_demonstrations(untrained(), poor, QUICK, stop=lambda: True)
    (added,) = stopped.shown[len(poor.shown) :]
    assert (added.lesson, added.source) == (poor.lessons[0].name, "policy")
