"""``remora train-agent``: train a scheduling policy, compare it, and save it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from remora.cli.console import output, print_files, print_line
from remora.cli.request import plain, without_none
from remora.tracking.registry import create

__all__ = ["run", "sections"]

_SECTIONS = ("env", "training", "evaluation")


def run(config: DictConfig) -> None:
    """Train as the configuration says; the policy goes to ``policy/`` in the folder ``out``.

    Raises:
        UsageError: a value is not allowed, or there is nothing to resume from.
    """
    from remora.api.train_agent import train_agent, train_agent_config

    values = plain(config)
    tracker_values = dict(values["tracker"])
    tracker = create(tracker_values.pop("name"), **tracker_values)
    chosen = train_agent_config(sections(values))
    command = " ".join(["remora", *sys.argv[1:]])
    trained = train_agent(chosen, Path(config.out), tracker, config.resume, command)
    console = output()
    for key, value in trained.card.items():
        if not isinstance(value, dict | list):
            print_line(console, f"{key}: {value}")
    print_files(console, [trained.path])


def sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put single values over those of the experiment, section by section.

    Args:
        values: plain values of the whole configuration.
    """
    experiment = values["experiment"] or {}
    merged = {**{name: {} for name in _SECTIONS}, **{k: dict(v) for k, v in experiment.items()}}
    for name in _SECTIONS:
        merged[name] = _merged(merged[name], without_none(values[name]))
    return merged


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result
