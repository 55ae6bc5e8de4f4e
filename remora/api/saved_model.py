"""How a file names a model: only ever one of ours, since a file must not name code to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from remora.api.model_source import ModelSource, named_source
from remora.errors import InvalidInputError

__all__ = ["SavedModel", "saved_model"]


@dataclass(frozen=True)
class SavedModel:
    """A model as ``estimate.json`` names it.

    Attributes:
        name: name in ``remora/conf/model``, or ``custom``.
        values: keyword arguments of its builder.
    """

    name: str
    values: Mapping[str, Any]

    def source(self) -> ModelSource:
        """Return how to build it.

        Raises:
            UnknownNameError: no such model.
            InvalidInputError: it is the user's own, which only the user may name.
        """
        if not isinstance(self.name, str) or not isinstance(self.values, Mapping):
            raise InvalidInputError(f"model is {self.name!r}, allowed: a name and values")
        if self.name == "custom":
            raise InvalidInputError(
                "the schedule belongs to a model of your own, which a file cannot name; "
                "give model=custom model.target=package.module:function"
            )
        return named_source(self.name, self.values)


def saved_model(source: ModelSource | None) -> dict[str, Any] | None:
    """Return the plain values of :class:`SavedModel`, or None where the source is not known."""
    if source is None:
        return None
    return asdict(SavedModel(source.name, dict(source.values)))
