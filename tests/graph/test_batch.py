"""Batches read, resized and cut into micro-batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remora.errors import InvalidInputError
from remora.graph.batch import batch_of, matched, outline_of, split_batch, with_batch


def test_batches_are_repeated_and_cut() -> None:
    inputs = {"x": torch.arange(6.0).reshape(3, 2), "scale": torch.tensor(2.0), "flag": True}
    assert batch_of(inputs) == 3
    larger = with_batch(inputs, 5)
    assert larger["x"][:, 0].tolist() == [0, 2, 4, 0, 2]
    assert with_batch(inputs, 1)["x"].shape == (1, 2)
    assert larger["scale"].item() == 2.0
    assert larger["flag"] is True


def test_large_floats_can_come_without_values() -> None:
    inputs = {"x": torch.zeros(2, 4, requires_grad=True), "ids": torch.arange(2)}
    small, large = with_batch(inputs, 8, most_float_bytes=128), with_batch(inputs, 9, 128)
    assert not small["x"].is_meta
    assert large["x"].is_meta
    assert large["x"].shape == (9, 4)
    assert large["x"].requires_grad
    assert large["ids"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_inputs_without_a_batch_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no tensor with a batch dimension"):
        batch_of((torch.tensor(1.0), 3))


def test_micro_batches_are_views_in_order() -> None:
    inputs = {"x": torch.arange(8.0).reshape(4, 2), "scale": torch.tensor(2.0), "flag": True}
    first, second = split_batch(inputs, 2)
    assert torch.equal(torch.cat([first["x"], second["x"]]), inputs["x"])
    assert first["x"].untyped_storage().data_ptr() == inputs["x"].untyped_storage().data_ptr()
    assert second["scale"] is inputs["scale"]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_number_that_does_not_divide_is_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match=f"micro_batches is {count}; allowed: divisors"):
        split_batch((torch.zeros(4, 2),), count)


def test_a_batch_is_put_into_the_order_that_was_planned() -> None:
    planned = {"a": torch.zeros(4, 2), "rest": [torch.zeros(4), 3], "flag": True}
    outline = outline_of(planned)
    given = {"flag": True, "rest": (torch.ones(4), 3), "a": torch.ones(4, 2)}
    found = matched(outline, given)
    assert list(found) == ["a", "rest", "flag"]
    assert found["a"] is given["a"]
    assert found["rest"][0] is given["rest"][0]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"a": torch.zeros(4, 2), "c": torch.zeros(4)}, r"batch has \['a', 'c'\]; allowed, as pl"),
        ({"a": torch.zeros(4, 2)}, r"batch has \['a'\]; allowed, as planned: \['a', 'b'\]"),
        (
            {"a": torch.zeros(3, 2), "b": torch.zeros(4)},
            r"batch\['a'\] has shape \(3, 2\); all",
        ),
        ({"a": 1, "b": torch.zeros(4)}, r"batch\['a'\] is a int; allowed, as planned: a tensor"),
        ({"a": torch.zeros(4, 2), "b": torch.zeros(4).int()}, r"\['b'\] has dtype torch.int32; al"),
        ((torch.zeros(4, 2), torch.zeros(4)), "batch has tuple; allowed, as planned"),
    ],
)
def test_a_batch_of_another_form_is_refused(batch: Any, message: str) -> None:
    outline = outline_of({"a": torch.zeros(4, 2), "b": torch.zeros(4)})
    with pytest.raises(InvalidInputError, match=message):
        matched(outline, batch)


def test_parts_by_position_are_counted() -> None:
    with pytest.raises(InvalidInputError, match="batch has 1 parts; allowed, as planned: 2"):
        matched((torch.zeros(4), torch.zeros(4)), (torch.zeros(4),))


def test_values_that_recorded_calls_hold_have_to_stay() -> None:
    with pytest.raises(InvalidInputError, match=r"batch\['flag'\] is False; allowed, as planned"):
        matched(outline_of({"flag": True}), {"flag": False})
