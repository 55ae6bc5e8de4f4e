"""What a training of an agent depends on, read from plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remora.agents.learned.imitation.cloning import CloningConfig
from remora.agents.learned.imitation.lookahead import LookaheadConfig
from remora.agents.learned.imitation.recorder import Emphasis
from remora.agents.learned.imitation.rounds import RoundConfig
from remora.agents.learned.imitation.teachers import Translation
from remora.agents.learned.network import NetworkSize
from remora.agents.learned.ppo_config import PpoConfig
from remora.api.configs import config_names, load_config
from remora.api.records import record
from remora.errors import InvalidInputError, UnknownNameError

__all__ = [
    "STAGES",
    "AgentTrainingConfig",
    "EvaluationConfig",
    "LabelsConfig",
    "LookaheadsConfig",
    "RoundsConfig",
    "agent_training_config",
    "experiment_config",
]

STAGES = ("cloning", "lookahead", "ppo", "rounds")
"""What a training may consist of; each goes on from the best policy of the one before."""

_LEARNING = ("cloning", "lookahead", "ppo", "rounds")
_SECTIONS = ("labels", "validation", "network", *_LEARNING, "evaluation")
_VALUES = ("seed", "stages", "start")


@dataclass(frozen=True)
class LabelsConfig:
    """Problems, and how long each is searched to know a good plan of it.

    Attributes:
        env: name of a file in ``conf/env``.
        count: problems that are drawn.
        seed: of the draws.
        one_device_s, pipeline_s: seconds of the processor for the search of each.
        workers: processes that search.
        refine_rounds: of changes by which an episode wins back what it loses against a plan.
        most_regret: log of the step time over the best one from which on a plan is not shown.
        folder: where labels were made before, or where they shall be kept; None for a folder of
            the training's own.
    """

    env: str = "joint"
    count: int = 96
    seed: int = 0
    one_device_s: float = 3.0
    pipeline_s: float = 10.0
    workers: int = 1
    refine_rounds: int = 16
    most_regret: float = 0.05
    folder: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers, and that there are such problems."""
        if self.env not in config_names("env"):
            raise UnknownNameError("env", self.env, config_names("env"))
        for name in ("count", "workers", "one_device_s", "pipeline_s", "refine_rounds"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"labels.{name} is {getattr(self, name)}; allowed: above 0")


@dataclass(frozen=True)
class LookaheadsConfig:
    """Rounds in which the policy tries what its other actions lead to, and learns from that.

    Attributes:
        count: how many rounds.
        epochs: of learning after each.
        learning_rate: of that learning.
        kept: latest rounds that are learned from.
        look: values of one round; the first one plays no episode that the policy begins.
    """

    count: int = 8
    epochs: int = 15
    learning_rate: float = 5e-4
    kept: int = 2
    look: LookaheadConfig = field(default_factory=LookaheadConfig)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("count", "epochs", "learning_rate", "kept"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(
                    f"lookahead.{name} is {getattr(self, name)}; allowed: above 0"
                )


@dataclass(frozen=True)
class RoundsConfig:
    """Rounds of self-imitation: the policy plans, its plans are polished, the better are learned.

    Attributes:
        count: how many rounds.
        epochs: of cloning after each.
        learning_rate: of that cloning.
        round: values of the search for better plans.
    """

    count: int = 2
    epochs: int = 12
    learning_rate: float = 3e-4
    round: RoundConfig = field(default_factory=RoundConfig)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("count", "epochs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"rounds.{name} is {getattr(self, name)}; allowed: above 0")


@dataclass(frozen=True)
class EvaluationConfig:
    """What the trained policy is compared with, on the validation problems.

    Attributes:
        schedulers: names in the registry.
        time_limit_s: for each of them, and for the policy with local search.
        samples: plans that the policy draws.
        pictures: problems whose plans are drawn as timelines.
    """

    schedulers: tuple[str, ...] = ("random", "greedy", "rank_greedy", "local_search")
    time_limit_s: float = 1.0
    samples: int = 64
    pictures: int = 2

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.time_limit_s > 0 or self.samples < 0 or self.pictures < 0:
            raise InvalidInputError(
                f"evaluation is {asdict(self)}; allowed: a time above 0, numbers of 0 or more"
            )


@dataclass(frozen=True)
class AgentTrainingConfig:
    """Everything a training depends on.

    Attributes:
        seed: of weights, of drawn problems of episodes and of all draws while training.
        stages: some of ``STAGES``, in the order in which they run.
        start: folder of a policy to go on from, None for fresh weights.
        labels: what is learned from.
        validation: what checkpoints are chosen by; never learned from.
        cloning, lookahead, ppo, rounds: values of the stages.
        evaluation: what the result is compared with.
    """

    seed: int = 0
    stages: tuple[str, ...] = STAGES
    start: str | None = None
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    validation: LabelsConfig = field(
        default_factory=lambda: LabelsConfig(env="joint_validation", count=18, seed=1)
    )
    cloning: CloningConfig = field(default_factory=CloningConfig)
    lookahead: LookaheadsConfig = field(default_factory=LookaheadsConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        """Check the stages and what they begin with, before hours go by."""
        if self.seed < 0:
            raise InvalidInputError(f"seed is {self.seed}; allowed: whole numbers from 0")
        if self.start is not None and not (Path(self.start) / "card.json").is_file():
            raise InvalidInputError(
                f"start is {self.start!r}, where there is no card.json; allowed: the folder of a "
                "policy, as train-agent writes it"
            )
        for stage in self.stages:
            if stage not in STAGES:
                raise UnknownNameError("stage", stage, STAGES)
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise InvalidInputError(
                f"stages is {list(self.stages)}; allowed: some of {', '.join(STAGES)}, each once"
            )
        if self.stages[0] == "rounds" and self.start is None:
            raise InvalidInputError(
                "stages begins with 'rounds' and start is None; allowed: the folder of a policy, "
                "or a stage before it"
            )

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


def agent_training_config(values: Mapping[str, Any] | None = None) -> AgentTrainingConfig:
    """Return a configuration from plain values, as they stand in ``conf/experiment``.

    Args:
        values: ``seed``, ``stages``, ``start`` and the sections ``labels``, ``validation``,
            ``network``, ``cloning``, ``lookahead``, ``ppo``, ``rounds`` and ``evaluation``; what
            is left out keeps its default.

    Raises:
        UnknownNameError: an unknown section or key; the message names the closest ones.
        InvalidInputError: a value is not allowed.
    """
    given = {key: value for key, value in (values or {}).items() if value is not None}
    for key in given:
        if key not in (*_SECTIONS, *_VALUES):
            raise UnknownNameError("section", key, (*_VALUES, *_SECTIONS))
    sections = {name: dict(given.pop(name, None) or {}) for name in _SECTIONS}
    size = record(NetworkSize, "network", sections["network"])
    seed = int(given.get("seed", 0))
    cloning = _nested(sections["cloning"], "cloning", emphasis=Emphasis)
    lookahead = _nested(sections["lookahead"], "lookahead", look=LookaheadConfig)
    rounds = _nested(sections["rounds"], "rounds", round=RoundConfig)
    validation = AgentTrainingConfig().validation
    whole = {
        "labels": record(LabelsConfig, "labels", sections["labels"]),
        "validation": record(
            LabelsConfig, "validation", {**asdict(validation), **sections["validation"]}
        ),
        "cloning": record(CloningConfig, "cloning", {**cloning, "seed": seed, "network": size}),
        "lookahead": record(LookaheadsConfig, "lookahead", lookahead),
        "ppo": record(PpoConfig, "ppo", {**sections["ppo"], "seed": seed, "network": size}),
        "rounds": record(RoundsConfig, "rounds", rounds),
        "evaluation": record(EvaluationConfig, "evaluation", sections["evaluation"]),
    }
    return record(AgentTrainingConfig, "training", {**given, **whole})


def experiment_config(name: str) -> AgentTrainingConfig:
    """Return the configuration of a file in ``conf/experiment``.

    Raises:
        UnknownNameError: there is no such file.
    """
    return agent_training_config(load_config("experiment", name))


def _nested(section: dict[str, Any], where: str, **kinds: type) -> dict[str, Any]:
    """A section with the records inside it built."""
    built = dict(section)
    for name, kind in kinds.items():
        inner = dict(built.get(name) or {})
        for field_ in dataclasses.fields(kind):
            if field_.name == "translation" and "translation" in inner:
                inner["translation"] = record(
                    Translation, f"{where}.{name}.translation", inner["translation"]
                )
        built[name] = record(kind, f"{where}.{name}", inner)
    return built
