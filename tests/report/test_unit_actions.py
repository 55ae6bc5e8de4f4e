from __future__ import annotations

from collections.abc import Mapping

import pytest

from remora.graph.model_graph import Unit
from remora.report.unit_actions import actions_text, fate
from remora.schedule.menu import keep_option, recompute_option
from remora.schedule.schedule import Action, UnitOption
from tests.problems import toy_graph

GRAPH = toy_graph()
# Saves weights, its input, and of its own: statistics of the norm (two), its output, and the
# result of the ReLU, once for the ReLU and once for the linear layer after it.
UNIT = GRAPH.units[0]
STATISTICS = ("3:t", "4:t")
NORMED = "5:addmm"
RELU = ("7:t", "8:addmm")


def option(actions: Mapping[str, Action], unit: Unit = UNIT) -> UnitOption:
    return UnitOption(
        tuple((saved.name, actions.get(saved.name, Action.KEEP)) for saved in unit.saved)
    )


def test_the_unit_of_these_tests_is_what_they_think() -> None:
    own = [s.name for s in UNIT.saved if GRAPH.storages[GRAPH.storage_of(s)].created >= 0]
    assert own == [*STATISTICS, NORMED, *RELU]
    assert len({GRAPH.storage_of(s) for s in UNIT.saved if s.name in RELU}) == 1


RECOMPUTE, OFFLOAD, COMPRESS = Action.RECOMPUTE, Action.OFFLOAD, Action.COMPRESS


@pytest.mark.parametrize(
    ("actions", "text", "name"),
    [
        ({}, "keep", "kept"),
        (
            dict.fromkeys(STATISTICS, RECOMPUTE) | {NORMED: OFFLOAD},
            "recompute 2 of 5 saved tensors, offload 1",
            "with several actions",
        ),
        ({NORMED: RECOMPUTE}, "recompute 1 of 5 saved tensors", "partly recomputed"),
        (dict.fromkeys(RELU, OFFLOAD), "offload 2 of 5 saved tensors", "offloaded"),
        ({NORMED: COMPRESS}, "compress 1 of 5 saved tensors", "compressed"),
        (dict.fromkeys((*STATISTICS, NORMED, *RELU), OFFLOAD), "offload", "offloaded"),
        (dict.fromkeys((*STATISTICS, NORMED, *RELU), RECOMPUTE), "recompute", "recomputed"),
        # One of two views of a storage does not decide about it, and weights stay.
        ({RELU[0]: OFFLOAD, "6:addmm": OFFLOAD}, "keep", "kept"),
    ],
)
def test_options_in_words(actions: Mapping[str, Action], text: str, name: str) -> None:
    assert actions_text(GRAPH, UNIT, option(actions), grouped=False) == text
    assert fate(GRAPH, UNIT, option(actions), grouped=False) == name


def test_whole_units_and_groups_in_words() -> None:
    again, keep = recompute_option(UNIT), keep_option(UNIT)
    assert actions_text(GRAPH, UNIT, again, grouped=False) == "recompute"
    assert actions_text(GRAPH, UNIT, again, grouped=True) == "recompute"
    assert actions_text(GRAPH, UNIT, keep, grouped=True) == "recompute with its group"
    assert fate(GRAPH, UNIT, again, grouped=False) == "recomputed"
    assert fate(GRAPH, UNIT, keep, grouped=True) == "recomputed"
