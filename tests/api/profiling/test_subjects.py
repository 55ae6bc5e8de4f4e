from __future__ import annotations

from typing import Any

import pytest

from remora.api.configs import config_names, load_config
from remora.api.model_source import ModelSource
from remora.api.profiling.subjects import subjects_from_values, subjects_of_model
from remora.errors import InvalidInputError, UnknownNameError


def _values(**entry: Any) -> dict[str, Any]:
    return {"entries": [{"family": "decoder", "model": "gpt2_tiny", **entry}]}


def test_changes_batches_and_dtypes_are_combined() -> None:
    found = subjects_from_values(
        _values(changes=[{"width": 64}, {"layers": 2}], batches=[1, 3], dtypes=["bfloat16"])
    )
    assert [(s.values["width"], s.values["layers"], s.batch) for s in found] == [
        (64, 4, 1),
        (64, 4, 3),
        (128, 2, 1),
        (128, 2, 3),
    ]
    assert {s.dtype for s in found} == {"bfloat16"}
    assert {s.model for s in found} == {"gpt2"}
    assert len({s.key for s in found}) == 4


def test_the_same_subject_twice_counts_once() -> None:
    assert len(subjects_from_values(_values(batches=[2, 2]))) == 1


@pytest.mark.parametrize("name", config_names("subjects"))
def test_every_list_that_ships_is_read(name: str) -> None:
    assert len(subjects_from_values(load_config("subjects", name))) > 1


def test_the_list_for_a_cpu_has_every_family_and_architecture() -> None:
    found = subjects_from_values(load_config("subjects", "zoo_cpu"))
    assert len({s.family for s in found}) == 7
    assert len({s.model for s in found}) == 13


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"entries": []}, InvalidInputError, "entries is empty"),
        ({"entries": [{"model": "gpt2_tiny"}]}, InvalidInputError, r"entries\[0\] is"),
        (_values(batch=[2]), UnknownNameError, "batches"),
        (
            {"entries": [{"family": "decoder", "model": "gpt3"}]},
            UnknownNameError,
            "did you mean 'gpt2'",
        ),
    ],
)
def test_wrong_entries_are_named(
    values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        subjects_from_values(values)


def test_a_function_without_a_dtype_cannot_be_measured_in_several() -> None:
    source = ModelSource("custom", "tests.api.profiling.models:stack", {})
    with pytest.raises(InvalidInputError, match="dtype values are"):
        subjects_of_model(source, "own", [1, 2], ["bfloat16"])
