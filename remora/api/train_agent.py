"""Training an agent from a configuration: problems, policy, comparison, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remora.api.configs import load_config
from remora.api.environment import EnvConfig, env_config, make_sampler
from remora.api.provenance import provenance
from remora.api.records import record
from remora.errors import UnknownNameError

if TYPE_CHECKING:
    from remora.agents.learned.comparison import Comparison
    from remora.agents.learned.network import PlanNetwork
    from remora.agents.learned.training import TrainingConfig
    from remora.envs.episode import Episode
    from remora.tracking.tracker import Tracker

__all__ = [
    "EvaluationConfig",
    "TrainAgentConfig",
    "TrainedAgent",
    "compare_policy",
    "train_agent",
    "train_agent_config",
]

POLICY_FOLDER = "policy"

_PACKAGES = ("torch", "torch-geometric", "stable-baselines3", "sb3-contrib", "gymnasium")


@dataclass(frozen=True)
class EvaluationConfig:
    """Problems on which a policy is compared, apart from those it was trained on.

    Attributes:
        models: names of ``conf/model``.
        hardware: names of ``conf/hardware``.
        shares: budgets from 0 (least memory) to 1 (keep all).
        schedulers: names of the schedulers to compare with.
        random_plans: plans that scheduler ``random`` draws.
        samples: plans that the policy draws besides its greedy one.
        seed: of all draws.
    """

    models: tuple[str, ...] = ("bert_tiny", "t5_tiny")
    hardware: tuple[str, ...] = ("a100_40g",)
    shares: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    schedulers: tuple[str, ...] = ("random", "greedy")
    random_plans: int = 16
    samples: int = 8
    seed: int = 0


@dataclass(frozen=True)
class TrainAgentConfig:
    """Everything a training run depends on.

    Attributes:
        env: problems to learn from.
        training: values of the training.
        evaluation: problems to be judged by.
    """

    env: EnvConfig
    training: TrainingConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainedAgent:
    """What a training run leaves behind.

    Attributes:
        path: folder of the policy.
        card: where it comes from and how good it is.
        comparisons: the policy against other schedulers.
    """

    path: Path
    card: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]


def train_agent_config(values: Mapping[str, Any] | None = None) -> TrainAgentConfig:
    """Return a configuration from plain values, as they stand in ``conf/experiment``.

    Args:
        values: sections ``env`` (with ``config``, a name in ``conf/env``), ``training`` and
            ``evaluation``; what is left out keeps its default.

    Raises:
        UnknownNameError: an unknown section or key; the message names the closest ones.
        InvalidInputError: a value is not allowed.
    """
    from remora.agents.learned.network import NetworkSize
    from remora.agents.learned.training import TrainingConfig

    sections = {key: dict(value or {}) for key, value in (values or {}).items()}
    for section in sections:
        if section not in ("env", "training", "evaluation"):
            raise UnknownNameError("section", section, ("env", "training", "evaluation"))
    env = sections.get("env", {})
    training = sections.get("training", {})
    if "network" in training:
        training["network"] = record(NetworkSize, "training.network", training["network"])
    return TrainAgentConfig(
        env=env_config(str(env.pop("config", "schedule")), env),
        training=record(TrainingConfig, "training", training),
        evaluation=record(EvaluationConfig, "evaluation", sections.get("evaluation", {})),
    )


def experiment_config(name: str) -> TrainAgentConfig:
    """Return the configuration of a file in ``conf/experiment``.

    Raises:
        UnknownNameError: there is no such file.
    """
    return train_agent_config(load_config("experiment", name))


def train_agent(
    config: TrainAgentConfig,
    out: Path,
    tracker: Tracker,
    resume: bool = False,
    command: str = "",
) -> TrainedAgent:
    """Train a policy, compare it on the problems of the evaluation, and save it.

    Args:
        config: what to do.
        out: folder; the policy goes to ``policy/``, the file to resume from to ``resume.zip``.
        tracker: not started yet; finished also when the training crashes.
        resume: go on from ``resume.zip``.
        command: the command line, for the card.

    Raises:
        FileFormatError: there is nothing to resume from.
    """
    from remora.agents.learned.policy_files import save_policy
    from remora.agents.learned.training import train_policy
    from remora.tracking.tracker import tracked

    path = out / POLICY_FOLDER
    with tracked(tracker, config.as_dict()):
        sampler = make_sampler(config.env)
        network = train_policy(
            sampler, config.env.size, config.training, out, tracker, resume=resume
        )
        rows = tuple(compare_policy(network, config))
        card = _card(config, rows, command)
        save_policy(path, network, card)
        tracker.log_table("comparison", *_table(rows))
        tracker.log_artifact("policy", "policy", path)
    return TrainedAgent(path, card, rows)


def compare_policy(network: PlanNetwork, config: TrainAgentConfig) -> Iterator[Comparison]:
    """Compare a policy with other schedulers on the problems of ``config.evaluation``."""
    from remora.agents.learned.comparison import compare

    chosen = config.evaluation
    settings: dict[str, dict[str, Any]] = {name: {} for name in chosen.schedulers}
    if "random" in settings:
        settings["random"] = {"samples": chosen.random_plans, "seed": chosen.seed}
    return compare(network, _problems(config), settings, chosen.samples, chosen.seed)


def _problems(config: TrainAgentConfig) -> Iterator[tuple[float, Episode]]:
    chosen = config.evaluation
    for model in chosen.models:
        values = {"models": (model,), "hardware": chosen.hardware}
        sampler = make_sampler(EnvConfig(**{**_fields(config.env), **values}))
        for hardware in chosen.hardware:
            for share in chosen.shares:
                yield share, sampler.find(f"{model}/{hardware}", share)


def _card(config: TrainAgentConfig, rows: tuple[Comparison, ...], command: str) -> dict[str, Any]:
    from remora.agents.learned.comparison import (
        GREEDY_DECODE,
        NO_DECISIONS,
        SAMPLED_DECODE,
        UNTRAINED,
        summarise,
    )

    quality = {
        f"{decode} over {other}": summarise(rows, decode, other)
        for decode in (GREEDY_DECODE, SAMPLED_DECODE)
        for other in (NO_DECISIONS, UNTRAINED, *config.evaluation.schedulers)
    }
    return {
        "data": "random problems of the models and hardware below, with roofline costs",
        "config": config.as_dict(),
        "seed": config.training.seed,
        **provenance(command, _PACKAGES),
        "quality": quality,
    }


def _table(rows: tuple[Comparison, ...]) -> tuple[list[str], list[list[Any]]]:
    names = list(rows[0].results) if rows else []
    columns = ["case", "range", "budget_bytes", *names]
    content = [
        [row.case, row.share, row.budget_bytes, *(row.results[n].overhead for n in names)]
        for row in rows
    ]
    return columns, content


def _fields(record: EnvConfig) -> dict[str, Any]:
    return {entry.name: getattr(record, entry.name) for entry in fields(record)}
