"""Sections of the configurations of trainings; the values stand in ``remora/conf``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "CloningSection",
    "CostTrainingSection",
    "EmphasisSection",
    "EvaluationSection",
    "LabelsSection",
    "NetworkSection",
    "OpTrainingSection",
    "PpoSection",
    "PracticeSection",
    "RoundSection",
    "RoundsSection",
    "StepTrainingSection",
    "TranslationSection",
]


@dataclass
class LabelsSection:
    """Values of problems that searches label; what is None keeps its default."""

    env: str | None = None
    count: int | None = None
    seed: int | None = None
    one_device_s: float | None = None
    pipeline_s: float | None = None
    workers: int | None = None
    refine_rounds: int | None = None
    most_regret: float | None = None
    folder: str | None = None


@dataclass
class NetworkSection:
    """Sizes of the policy network; what is None keeps its default."""

    width: int | None = None
    rounds: int | None = None
    heads: int | None = None
    encoder: str | None = None


@dataclass
class EmphasisSection:
    """What counts how much in the imitation; what is None keeps its default."""

    regret: float | None = None
    shape_regret: float | None = None
    shape_weight: float | None = None
    outcome: float | None = None
    matter: float | None = None


@dataclass
class CloningSection:
    """Values of the imitation of searches; what is None keeps its default."""

    epochs: int | None = None
    max_seconds: float | None = None
    episodes_per_batch: int | None = None
    learning_rate: float | None = None
    last_rate: float | None = None
    weight_decay: float | None = None
    value_weight: float | None = None
    max_grad_norm: float | None = None
    validate_every: int | None = None
    max_units: int | None = None
    emphasis: EmphasisSection = field(default_factory=EmphasisSection)


@dataclass
class LookSection:
    """Values of one round of lookahead; what is None keeps its default."""

    shown: int | None = None
    own: int | None = None
    unlikely: float | None = None
    together: int | None = None


@dataclass
class LookaheadSection:
    """Values of learning from what other actions lead to; what is None keeps its default."""

    count: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    kept: int | None = None
    look: LookSection = field(default_factory=LookSection)


@dataclass
class PpoSection:
    """Values of reinforcement learning; what is None keeps its default."""

    total_steps: int | None = None
    max_seconds: float | None = None
    num_envs: int | None = None
    steps_per_env: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    last_rate: float | None = None
    entropy_weight: float | None = None
    reference_weight: float | None = None
    value_weight: float | None = None
    gae_lambda: float | None = None
    clip_range: float | None = None
    max_grad_norm: float | None = None
    checkpoint_every: int | None = None
    max_units: int | None = None
    shaping: bool | None = None


@dataclass
class TranslationSection:
    """How schedules become episodes; what is None keeps its default."""

    rounds: int | None = None
    most_regret: float | None = None
    seed: int | None = None


@dataclass
class RoundSection:
    """Values of one round; what is None keeps its default."""

    samples: int | None = None
    temperature: float | None = None
    polished: int | None = None
    evaluations: int | None = None
    least_gain: float | None = None
    most_regret: float | None = None
    translation: TranslationSection = field(default_factory=TranslationSection)


@dataclass
class RoundsSection:
    """Values of self-imitation; what is None keeps its default."""

    count: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    round: RoundSection = field(default_factory=RoundSection)


@dataclass
class EvaluationSection:
    """Values of the comparison after training; what is None keeps its default."""

    schedulers: list[str] | None = None
    time_limit_s: float | None = None
    samples: int | None = None
    pictures: int | None = None


@dataclass
class OpTrainingSection:
    """Values of the operator networks; what is None keeps its default."""

    members: int | None = None
    epochs: int | None = None
    batch_units: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    width: int | None = None
    layers: int | None = None
    unknown_share: float | None = None
    unit_weight: float | None = None


@dataclass
class StepTrainingSection:
    """Values of the networks that correct the simulator; what is None keeps its default."""

    members: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    shared_rate: float | None = None
    weight_decay: float | None = None
    hidden: int | None = None
    layers: int | None = None
    batch_graphs: int | None = None
    order_weight: float | None = None
    huber: float | None = None
    confidence: float | None = None


@dataclass
class CostTrainingSection:
    """Values of the training of a cost model; what is None keeps its default."""

    seed: int | None = None
    folds: int | None = None
    op: OpTrainingSection = field(default_factory=OpTrainingSection)
    step: StepTrainingSection = field(default_factory=StepTrainingSection)


@dataclass
class PracticeSection:
    """Values of a little practice for new problems; what is None keeps its default."""

    problems: int | None = None
    validation: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    scratch_learning_rate: float | None = None
    ppo_share: float | None = None
    ppo_learning_rate: float | None = None
    round: RoundSection = field(default_factory=RoundSection)
