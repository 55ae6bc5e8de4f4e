"""``remora train-agent``: train a scheduling policy, compare it, and save it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import plain, without_none
from remora.cli.shown_tracker import ShownTracker
from remora.report.tables import cells_table
from remora.tracking.registry import create

if TYPE_CHECKING:
    from remora.agents.learned.comparison import Comparison

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
    with progress_shown() as progress:
        progress.stage("tracing the models to learn from")
        shown = ShownTracker(tracker, progress, ("rollout/ep_rew_mean",))
        trained = train_agent(chosen, Path(config.out), shown, config.resume, command)
    console = output()
    console.print(cells_table(*_table(trained.comparisons)))
    print_line(console)
    print_files(console, [trained.path])


def _table(comparisons: Sequence[Comparison]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: overhead over keep all by problem and scheduler."""
    names = list(dict.fromkeys(name for row in comparisons for name in row.results))
    rows = [
        (row.case, f"{row.share:.2f}", *(_overhead(row, name) for name in names))
        for row in comparisons
    ]
    return ("problem", "range", *names), rows


def _overhead(row: Comparison, name: str) -> str:
    result = row.results.get(name)
    if result is None or result.overhead is None:
        return "-"
    return f"{result.overhead * 100:+.1f} %"


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
