"""How far two ways end apart, in shares of the first one."""

from __future__ import annotations

import math

import pytest
import torch

from remora.executor.training import ways_apart

START = {"a": torch.tensor([0.0, 0.0]), "b": torch.tensor([1.0])}
END = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([5.0])}


def test_equal_ways_are_not_apart() -> None:
    assert ways_apart(START, END, END) == 0.0
    assert ways_apart(START, START, START) == 0.0


def test_a_share_of_the_way_of_all_parameters_together() -> None:
    other = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([5.0])}
    assert ways_apart(START, END, other) == pytest.approx(1 / 5)


def test_a_way_from_where_the_other_stood_still_is_infinite() -> None:
    assert ways_apart(START, START, END) == math.inf


def test_what_is_no_number_in_both_is_equal_and_in_one_is_not() -> None:
    lost = {**END, "b": torch.tensor([math.nan])}
    assert ways_apart(START, lost, lost) == 0.0
    assert ways_apart(START, END, lost) == math.inf
