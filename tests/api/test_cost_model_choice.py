from __future__ import annotations

import pytest

from remora.api.cost_model_choice import check_cost_model, choose_cost_model
from remora.errors import InvalidInputError, UnknownNameError


def test_the_machine_at_hand_is_measured() -> None:
    choice = choose_cost_model("auto", None, True, "cpu", "here")
    assert choice.name == "profiled"


def test_another_device_of_a_known_type_is_predicted_by_what_was_learned() -> None:
    choice = choose_cost_model("auto", None, False, "cpu", "a server")
    assert choice.name == "gnn"
    assert "a server is not at hand" in choice.reason


def test_a_device_of_an_unknown_type_is_priced_by_the_roofline_and_the_reason_is_said() -> None:
    choice = choose_cost_model("auto", None, False, "tpu", "a pod")
    assert choice.name == "roofline"
    assert "has seen devices of type cpu" in choice.reason


@pytest.mark.parametrize("name", ["profiled", "gnn", "roofline"])
def test_what_is_asked_for_is_taken(name: str) -> None:
    assert choose_cost_model(name, None, True, "cpu", "here").name == name


def test_wrong_requests_are_named() -> None:
    with pytest.raises(UnknownNameError, match="gmm"):
        check_cost_model("gmm", None, True)
    with pytest.raises(InvalidInputError, match="not at hand: gnn, roofline"):
        check_cost_model("profiled", None, False)
    with pytest.raises(InvalidInputError, match="allowed with cost_model=roofline: nothing"):
        check_cost_model("roofline", "folder", True)
    with pytest.raises(InvalidInputError, match=r"there is no card\.json"):
        choose_cost_model("auto", "nowhere", True, "cpu", "here")
