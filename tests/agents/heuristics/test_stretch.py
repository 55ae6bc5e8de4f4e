from __future__ import annotations

import pytest

from remora.agents.evaluation import Evaluator
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from tests.agents.budgets import uneven_problem


def test_progress_by_evaluations() -> None:
    evaluator = Evaluator(uneven_problem(0.5), 60.0)
    space = Space(evaluator.problem)
    whole = Stretch(evaluator, 4)
    assert whole.progress == 0.0
    evaluator.score(space.keep_all)
    assert whole.progress == 0.25
    half = whole.part(0.5)
    assert half.evaluations == 1
    evaluator.score(space.floor)
    assert half.progress == 1.0
    assert Stretch(evaluator, 0).progress == 1.0


def test_progress_by_time() -> None:
    now = 0.0
    evaluator = Evaluator(uneven_problem(0.5), 10.0, clock=lambda: now)
    whole = Stretch(evaluator)
    now = 2.0
    assert whole.progress == pytest.approx(0.2)
    part = whole.part(0.5)
    now = 3.5
    assert part.progress == pytest.approx(0.5)
    now = 10.0
    assert whole.progress == pytest.approx(1.0)
    assert Stretch(evaluator).progress == 1.0
