"""From a composed configuration to the records of the Python API."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from remora.api.hardware import is_local
from remora.api.model_source import CUSTOM, ModelSource
from remora.api.request import Request
from remora.errors import InvalidInputError
from remora.hardware.local import local_device_type

__all__ = [
    "folders_of",
    "local_device",
    "make_request",
    "model_source",
    "optimizer_name",
    "plain",
    "units_of",
    "without_none",
]


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, interpolations resolved."""
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without those that are None, at every depth."""
    return {
        key: without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


def model_source(config: DictConfig) -> ModelSource:
    """Return where the model comes from.

    Raises:
        InvalidInputError: a custom model without its target.
    """
    values = plain(config)
    if values["name"] == CUSTOM and not values["target"]:
        raise InvalidInputError(
            "model.target is missing, allowed: package.module:function, which returns "
            "(model, example_inputs) or (model, example_inputs, loss)"
        )
    return ModelSource(values["name"], values["target"], values["values"])


def make_request(config: DictConfig, agent: dict[str, Any] | None = None) -> Request:
    """Return what to plan for.

    Args:
        config: of any command with hardware, cost model, memory and optimizer.
        agent: name and settings of the scheduler.

    Raises:
        InvalidInputError: a value is not allowed.
    """
    hardware = without_none(plain(config.hardware))
    settings = dict(agent or {})
    defaults = Request()
    time_limit_s = config.get("time_limit_s", defaults.time_limit_s)
    if not time_limit_s > 0:
        raise InvalidInputError(f"time_limit_s is {time_limit_s}, allowed: seconds above 0")
    return Request(
        memory=config.memory,
        optimizer=optimizer_name(config.optimizer),
        host_pool=hardware.pop("host_pool", None),
        state=hardware.pop("state", None),
        hardware=hardware,
        world_size=config.get("world_size", 1),
        micro_batches=config.get("micro_batches"),
        move_state=config.get("move_state"),
        tensor_degree=config.get("tensor_degree"),
        global_batch=config.get("global_batch"),
        agent=settings.pop("name", defaults.agent),
        agent_settings=settings,
        time_limit_s=time_limit_s,
        cost_model=config.cost_model.name,
        cost_model_weights=config.cost_model.weights,
        allow_lossy=config.get("allow_lossy", False),
        mode=config.get("mode") or defaults.mode,
        prompt_tokens=config.get("prompt_tokens"),
        generated_tokens=config.get("generated_tokens") or 0,
        precisions=tuple(config.get("precision") or ()),
    )


def optimizer_name(name: str | None) -> str | None:
    """Return the optimizer, None for ``none``."""
    return None if name == "none" else name


def units_of(config: DictConfig) -> tuple[str, ...] | None:
    """Return the module paths that begin units, if they are given.

    Raises:
        InvalidInputError: an empty list.
    """
    if config.units is None:
        return None
    if not config.units:
        raise InvalidInputError("units is [], allowed: module paths as [a,b], or null")
    return tuple(config.units)


def folders_of(field: str, value: Any) -> tuple[Path, ...]:
    """Return one folder, or those of a list.

    Args:
        field: name of the key, for the message.
        value: plain value of the configuration.

    Raises:
        InvalidInputError: neither a text nor a list of some.
    """
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise InvalidInputError(f"{field} is {value!r}, allowed: a folder, or several as [a,b]")
    return tuple(map(Path, values))


def local_device(request: Request) -> str | None:
    """Return the device type of this machine if the plan is for it, else None."""
    return local_device_type() if is_local(request.hardware) else None
