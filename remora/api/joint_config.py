"""Configurations of the joint environment: files of ``conf/env`` whose names begin with joint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remora.api.bench.traces import batch_size
from remora.api.configs import config_names, load_config
from remora.envs.drawing import SYNTHETIC, BudgetDraw, ModelChoice, Recipe
from remora.errors import InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode

if TYPE_CHECKING:
    from remora.envs.observation import JointSize

__all__ = ["JointConfig", "joint_config"]

_KEYS = (
    "models",
    "devices",
    "clusters",
    "world_sizes",
    "optimizers",
    "budget_low",
    "budget_high",
    "budget_elsewhere",
    "fixed_micro_batches",
    "varied",
    "spread",
    "max_units",
    "max_edges",
)
_OPTIONAL = ("mode",)
_MODEL_KEYS = ("model", "weight", "values", "tokens")


@dataclass(frozen=True)
class JointConfig:
    """What problems are drawn from, and how far observations are padded.

    Attributes:
        recipe: what they are drawn from.
        max_units, max_edges: most of a graph, each direction of an edge counted.
    """

    recipe: Recipe
    max_units: int
    max_edges: int

    @property
    def size(self) -> JointSize:
        """How far observations are padded."""
        from remora.envs.observation import JointSize

        return JointSize(self.max_units, self.max_edges)


def joint_config(name: str = "joint", values: Mapping[str, Any] | None = None) -> JointConfig:
    """Return a configuration of the joint environment with some values replaced.

    Args:
        name: name of its file in ``conf/env``.
        values: replacements, such as ``{"world_sizes": {1: 1}}``.

    Raises:
        UnknownNameError: no such file, value, model or hardware.
        InvalidInputError: a value is missing or not allowed.
    """
    merged = {**load_config("env", name), **(values or {})}
    for key in merged:
        if key not in (*_KEYS, *_OPTIONAL):
            raise UnknownNameError(f"key in env {name!r}", str(key), (*_KEYS, *_OPTIONAL))
    missing = [key for key in _KEYS if key not in merged]
    if missing:
        raise InvalidInputError(f"env {name!r} lacks {missing[0]!r}")
    for group in ("devices", "clusters", "world_sizes", "optimizers"):
        if not isinstance(merged[group], Mapping):
            raise InvalidInputError(
                f"env.{group} is {merged[group]!r}; allowed: names with their weights"
            )
    for group in ("devices", "clusters"):
        _check_names("hardware", merged[group])
    return JointConfig(_recipe(merged), int(merged["max_units"]), int(merged["max_edges"]))


def _recipe(values: Mapping[str, Any]) -> Recipe:
    models, spread = values["models"], values["spread"]
    if isinstance(models, str) or not models:
        raise InvalidInputError(f"env.models is {models!r}; allowed: a list of models")
    if isinstance(spread, str | float | int) or len(spread) != 2:
        raise InvalidInputError(f"env.spread is {spread!r}; allowed: two numbers, 0 or more")
    return Recipe(
        models=tuple(map(_model, models)),
        devices=dict(values["devices"]),
        clusters=dict(values["clusters"]),
        world_sizes={int(count): weight for count, weight in values["world_sizes"].items()},
        optimizers=dict(values["optimizers"]),
        budgets=BudgetDraw(values["budget_low"], values["budget_high"], values["budget_elsewhere"]),
        fixed=values["fixed_micro_batches"],
        varied=values["varied"],
        spread=(float(spread[0]), float(spread[1])),
        mode=_mode(values.get("mode", Mode.TRAIN.value)),
    )


def _mode(value: Any) -> Mode:
    if value not in list(Mode):
        allowed = ", ".join(repr(one.value) for one in Mode)
        raise InvalidInputError(f"env.mode is {value!r}; allowed: {allowed}")
    return Mode(value)


def _model(entry: Any) -> ModelChoice:
    """Read a model: its name alone, or what is drawn for it."""
    values: Any = {"model": entry} if isinstance(entry, str) else entry
    if not isinstance(values, Mapping) or "model" not in values:
        raise InvalidInputError(
            f"env.models holds {entry!r}; allowed: names, or mappings with the key 'model'"
        )
    for key in values:
        if key not in _MODEL_KEYS:
            raise UnknownNameError("key in env.models", str(key), _MODEL_KEYS)
    name, drawn = str(values["model"]), dict(values.get("values", {}))
    if name != SYNTHETIC:
        _check_names("model", (name,))
        drawn.setdefault("batch", [batch_size(name, {})])
    tokens = tuple(tuple(pair) for pair in values.get("tokens", ()))
    return ModelChoice(name, drawn, float(values.get("weight", 1.0)), tokens)


def _check_names(group: str, names: Any) -> None:
    allowed = config_names(group)
    for name in names:
        if name not in allowed:
            raise UnknownNameError(group, str(name), allowed)
