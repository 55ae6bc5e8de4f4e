"""``remora train-agent``: train a policy for whole plans, compare it, and save it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import plain, without_none
from remora.cli.shown_tracker import ShownTracker
from remora.report.tables import cells_table
from remora.tracking.registry import create

__all__ = ["run", "training_values"]

_SECTIONS = (
    "labels",
    "validation",
    "network",
    "cloning",
    "lookahead",
    "ppo",
    "rounds",
    "evaluation",
)
_VALUES = ("seed", "stages", "start")
_CURVES = ("cloning/validation/regret", "ppo/validation/regret", "ppo/rollout/cost_mean")


def run(config: DictConfig) -> float:
    """Train as the configuration says; the policy goes to ``policy/`` in the folder ``out``.

    Returns:
        Regret on the validation problems, for sweepers.

    Raises:
        UsageError: a value is not allowed, or there is nothing to resume from.
    """
    from remora.api.agent_training.config import agent_training_config
    from remora.api.agent_training.judging import COLUMNS, summary_rows
    from remora.api.agent_training.train import RESULT_NAME, train_agent

    values = plain(config)
    tracker_values = dict(values["tracker"])
    tracker = create(tracker_values.pop("name"), **tracker_values)
    chosen = agent_training_config(training_values(values))
    command = " ".join(["remora", *sys.argv[1:]])
    out = Path(config.out)
    with progress_shown() as progress:
        shown = ShownTracker(tracker, progress, _CURVES)
        trained = train_agent(chosen, out, shown, config.resume, command, progress.stage)
    console = output()
    console.print(cells_table(COLUMNS, summary_rows(trained.answers)))
    print_line(console)
    print_files(console, [trained.path, out / RESULT_NAME])
    return trained.regret


def training_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put single values over those of the experiment, section by section.

    Args:
        values: plain values of the whole configuration.
    """
    merged = dict(values["experiment"] or {})
    for name in _VALUES:
        if values[name] is not None:
            merged[name] = values[name]
    for name in _SECTIONS:
        merged[name] = _merged(merged.get(name) or {}, without_none(values[name]))
    return merged


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result
