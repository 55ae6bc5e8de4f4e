"""From a configuration to the list of models, sizes, batches and number formats to measure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from remora.api.configs import load_config
from remora.api.model_source import CUSTOM, ModelSource
from remora.cost_models.dataset.records import Subject
from remora.errors import InvalidInputError, UnknownNameError
from remora.zoo import registry

__all__ = ["subjects_from_values", "subjects_of_model"]

_KEYS = ("family", "model", "changes", "batches", "dtypes")


def subjects_from_values(values: Mapping[str, Any]) -> tuple[Subject, ...]:
    """Read ``conf/subjects``: entries of family, model, changes, batches and dtypes.

    Every change (values put over those of the model) is combined with every batch and dtype.

    Raises:
        InvalidInputError: an entry is not of this form.
        UnknownNameError: there is no such model, or an entry has an unknown key.
    """
    found: dict[str, Subject] = {}
    for number, entry in enumerate(values.get("entries") or ()):
        if not isinstance(entry, Mapping) or "model" not in entry or "family" not in entry:
            raise InvalidInputError(
                f"subjects.entries[{number}] is {entry!r}, allowed: a mapping with family and model"
            )
        for key in entry:
            if key not in _KEYS:
                raise UnknownNameError(f"key of subjects.entries[{number}]", str(key), _KEYS)
        config = load_config("model", entry["model"])
        source = ModelSource(entry["model"], config["target"], config["values"])
        for subject in _subjects(
            source,
            entry["family"],
            entry.get("changes") or ({},),
            entry.get("batches"),
            entry.get("dtypes"),
        ):
            found[subject.key] = subject
    if not found:
        raise InvalidInputError("subjects.entries is empty, allowed: one entry or more")
    return tuple(found.values())


def subjects_of_model(
    source: ModelSource,
    family: str,
    batches: Sequence[int] | None,
    dtypes: Sequence[str] | None,
) -> tuple[Subject, ...]:
    """Return one model at several batches and in several dtypes.

    Raises:
        InvalidInputError: batches or dtypes are given, and the model's function takes none.
    """
    return tuple(_subjects(source, family, ({},), batches, dtypes))


def _subjects(
    source: ModelSource,
    family: str,
    changes: Sequence[Mapping[str, Any]],
    batches: Sequence[int] | None,
    dtypes: Sequence[str] | None,
) -> Iterable[Subject]:
    _check_takes(source, {"batch": batches, "dtype": dtypes})
    _check_sizes(batches, dtypes)
    for change, batch, dtype in product(changes, batches or (None,), dtypes or (None,)):
        given = {"batch": batch, "dtype": dtype}
        values = {**source.values, **change, **{k: v for k, v in given.items() if v is not None}}
        yield Subject(
            family=family,
            model=source.target.rpartition(":")[2],
            target=source.target,
            values=values,
            batch=int(values.get("batch", 1)),
            dtype=str(values.get("dtype", "float32")),
        )


def _check_sizes(batches: Sequence[int] | None, dtypes: Sequence[str] | None) -> None:
    import torch

    for batch in batches or ():
        if batch < 1:
            raise InvalidInputError(f"batches holds {batch}, allowed: whole numbers from 1")
    for dtype in dtypes or ():
        found = getattr(torch, dtype, None)
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise UnknownNameError("dtype", dtype, ("bfloat16", "float16", "float32", "float64"))


def _check_takes(source: ModelSource, given: Mapping[str, Sequence[Any] | None]) -> None:
    """Refuse values that the user's own function has no argument for."""
    if source.name != CUSTOM:
        return
    try:
        parameters = inspect.signature(registry.resolve(source.target)).parameters
    except ValueError as error:
        raise InvalidInputError(f"model.target: {error}") from error
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name, values in given.items():
        if values is not None and name not in parameters and not any_name:
            raise InvalidInputError(
                f"{name} values are {list(values)}, allowed for {source.target}: none, since it "
                f"has no argument {name!r}"
            )
