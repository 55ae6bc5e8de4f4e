"""Trained cost models on disk: safetensors and a JSON card; some ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remora.cost_models.gnn.cost_model import GnnCostModel
from remora.cost_models.gnn.op_model import OpTimeModel
from remora.cost_models.gnn.step_model import StepModel
from remora.errors import FileFormatError, UnknownNameError
from remora.tracking.artifacts import load_artifact, save_artifact

__all__ = [
    "COST_MODEL_VERSION",
    "DEFAULT",
    "load_cost_model",
    "pretrained_names",
    "pretrained_path",
    "save_cost_model",
]

COST_MODEL_VERSION = 1
DEFAULT = "default"
"""Name of the one that is used where nothing else is said."""

_KIND = "gnn"
_OPERATORS, _STEPS = "operators", "steps"
_PRETRAINED = Path(__file__).parent / "pretrained"


def save_cost_model(path: Path, model: GnnCostModel, card: Mapping[str, Any]) -> None:
    """Write a cost model, whole or not at all.

    Args:
        path: a folder.
        model: what was trained.
        card: where it comes from and how good it is, as plain JSON values.

    Raises:
        FileFormatError: the card holds ``_target_``.
    """
    op_tensors, op_values = model.op_model.state()
    step_tensors, step_values = model.step_model.state()
    tensors = {f"{_OPERATORS}/{name}": tensor for name, tensor in op_tensors.items()}
    tensors |= {f"{_STEPS}/{name}": tensor for name, tensor in step_tensors.items()}
    head = {"cost_model": _KIND, "version": COST_MODEL_VERSION}
    parts = {_OPERATORS: op_values, _STEPS: step_values}
    save_artifact(path, tensors, {**head, **parts, "card": dict(card)})


def load_cost_model(path: Path) -> tuple[GnnCostModel, dict[str, Any]]:
    """Read a cost model.

    Returns:
        The model, ready to predict, and its card.

    Raises:
        FileFormatError: a file is missing, damaged, newer than this version, no cost model, or
            names code to run.
    """
    tensors, head = load_artifact(path)
    if head.get("cost_model") != _KIND:
        raise FileFormatError(
            f"{path} holds cost_model {head.get('cost_model')!r}; allowed: {_KIND!r}"
        )
    if not isinstance(head.get("version"), int) or head["version"] > COST_MODEL_VERSION:
        raise FileFormatError(
            f"{path} has version {head.get('version')!r}; allowed: up to {COST_MODEL_VERSION}"
        )
    for part in (_OPERATORS, _STEPS):
        if not isinstance(head.get(part), Mapping):
            raise FileFormatError(f"{path} lacks the values of {part!r}")
    try:
        op_model = OpTimeModel.from_state(_part(tensors, _OPERATORS), head[_OPERATORS])
        step_model = StepModel.from_state(_part(tensors, _STEPS), head[_STEPS])
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    return GnnCostModel(op_model, step_model), dict(head.get("card", {}))


def pretrained_names() -> tuple[str, ...]:
    """Names of the cost models that ship with the package."""
    return tuple(sorted(path.parent.name for path in _PRETRAINED.glob("*/card.json")))


def pretrained_path(name: str = DEFAULT) -> Path:
    """Folder of a cost model that ships with the package.

    Raises:
        UnknownNameError: none has that name.
    """
    if name not in pretrained_names():
        raise UnknownNameError("pretrained cost model", name, pretrained_names())
    return _PRETRAINED / name


def _part(tensors: Mapping[str, Any], part: str) -> dict[str, Any]:
    prefix = f"{part}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
