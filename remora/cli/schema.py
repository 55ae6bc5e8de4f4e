"""What the configuration of every command may hold; the values stand in ``remora/conf``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from remora.cli.training_schema import (
    CloningSection,
    CostTrainingSection,
    EvaluationSection,
    LabelsSection,
    LookaheadSection,
    NetworkSection,
    PpoSection,
    PracticeSection,
    RoundsSection,
)

__all__ = [
    "SCHEMAS",
    "BenchFidelityConfig",
    "BenchPeersConfig",
    "BenchQualityConfig",
    "BenchTransferConfig",
    "FitsConfig",
    "HardwareSection",
    "ModelSection",
    "OptimizeConfig",
    "ProfileConfig",
    "ReplanConfig",
    "SubjectsSection",
    "SuiteSection",
    "TrainAgentConfig",
    "TrainCostModelConfig",
    "VerifyConfig",
]


@dataclass
class ModelSection:
    """A model: see ``remora/conf/model``."""

    name: str = MISSING
    target: str = MISSING
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class StateSection:
    """State of the hardware; what is None is read on this machine, or as new elsewhere."""

    free_memory: Any = None
    host_link_share: float | None = None
    link_share: float | None = None


@dataclass
class HardwareSection:
    """A hardware: see ``remora/conf/hardware``; ``host_pool`` overrides ``host.pool``."""

    name: str = MISSING
    host_pool: str | None = None
    device_type: str | None = None
    devices_per_node: int | None = None
    memory_bytes: int | None = None
    context_bytes: int | None = None
    flops_per_s: dict[str, float] | None = None
    memory_bandwidth_bytes_per_s: float | None = None
    kernel_launch_s: float | None = None
    host: dict[str, Any] | None = None
    link: dict[str, float] | None = None
    node_link: dict[str, float] | None = None
    state: StateSection = field(default_factory=StateSection)


@dataclass
class CostModelSection:
    """A cost model: see ``remora/conf/cost_model``."""

    name: str = MISSING
    weights: str | None = None


@dataclass
class OptimizeConfig:
    """Values of ``remora optimize``."""

    model: ModelSection = field(default_factory=ModelSection)
    hardware: HardwareSection = field(default_factory=HardwareSection)
    agent: dict[str, Any] = field(default_factory=dict)
    cost_model: CostModelSection = field(default_factory=CostModelSection)
    tracker: dict[str, Any] = field(default_factory=dict)
    memory: Any = None
    optimizer: str | None = MISSING
    world_size: int = MISSING
    micro_batches: int | None = None
    move_state: bool | None = None
    tensor_degree: int | None = None
    global_batch: bool | None = None
    time_limit_s: float = MISSING
    mode: str = MISSING
    prompt_tokens: int | None = None
    generated_tokens: int = MISSING
    precision: list[str] = field(default_factory=list)
    units: list[str] | None = None
    verify: bool = MISSING
    verify_time_limit_s: float = MISSING
    rounds: int = MISSING
    top_k: int = MISSING
    dataset: str | None = None
    figures: str | None = None
    out: str | None = None


@dataclass
class FitsConfig:
    """Values of ``remora fits``."""

    model: ModelSection = field(default_factory=ModelSection)
    hardware: HardwareSection = field(default_factory=HardwareSection)
    cost_model: CostModelSection = field(default_factory=CostModelSection)
    memory: Any = None
    optimizer: str | None = MISSING
    mode: str = MISSING
    prompt_tokens: int | None = None
    generated_tokens: int = MISSING
    units: list[str] | None = None
    largest_batch: bool = MISSING
    out: str | None = None


@dataclass
class VerifyConfig:
    """Values of ``remora verify``."""

    schedule: str = MISSING
    model: ModelSection | None = None
    hardware: HardwareSection = field(default_factory=HardwareSection)
    cost_model: CostModelSection = field(default_factory=CostModelSection)
    memory: Any = None
    optimizer: str | None = None
    world_size: int | None = None
    mode: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    units: list[str] | None = None
    allow_lossy: bool = MISSING
    time_limit_s: float = MISSING
    out: str | None = None


@dataclass
class StateOnlySection:
    """Hardware whose name and rates the plan has; only its state may be given."""

    state: StateSection = field(default_factory=StateSection)


@dataclass
class ReplanConfig:
    """Values of ``remora replan``."""

    schedule: str = MISSING
    memory: Any = None
    hardware: StateOnlySection = field(default_factory=StateOnlySection)
    scope: str = MISSING
    time_limit_s: float = MISSING
    cost_model_weights: str | None = None
    out: str | None = None


@dataclass
class SubjectsSection:
    """Models to measure: see ``remora/conf/subjects``."""

    name: str = MISSING
    entries: list[Any] = field(default_factory=list)


@dataclass
class ProfileConfig:
    """Values of ``remora profile``."""

    subjects: SubjectsSection = field(default_factory=SubjectsSection)
    model: ModelSection | None = None
    tracker: dict[str, Any] = field(default_factory=dict)
    family: str = MISSING
    batches: list[int] | None = None
    dtypes: list[str] | None = None
    dataset: str | None = None
    schedules: int = MISSING
    repetitions: int = MISSING
    optimizer: str | None = MISSING
    threads: int | None = None
    seed: int = MISSING
    round: int = MISSING
    part: int = MISSING
    parts: int = MISSING
    subject_time_limit_s: float = MISSING
    time_limit_s: float | None = None
    out: str | None = None


@dataclass
class TrainAgentConfig:
    """Values of ``remora train-agent``; single values go before those of the experiment.

    The sections are checked by :func:`remora.api.agent_training.config.agent_training_config`.
    """

    experiment: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    stages: list[str] | None = None
    start: str | None = None
    labels: LabelsSection = field(default_factory=LabelsSection)
    validation: LabelsSection = field(default_factory=LabelsSection)
    network: NetworkSection = field(default_factory=NetworkSection)
    cloning: CloningSection = field(default_factory=CloningSection)
    ppo: PpoSection = field(default_factory=PpoSection)
    lookahead: LookaheadSection = field(default_factory=LookaheadSection)
    rounds: RoundsSection = field(default_factory=RoundsSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    tracker: dict[str, Any] = field(default_factory=dict)
    resume: bool = MISSING
    out: str | None = None


@dataclass
class SuiteSection:
    """A suite: see ``remora/conf/suite``."""

    name: str = MISSING
    about: str = ""
    problems: list[Any] = field(default_factory=list)


@dataclass
class BenchQualityConfig:
    """Values of ``remora bench quality``; methods and seeds have defaults by what is asked."""

    suite: SuiteSection = field(default_factory=SuiteSection)
    methods: list[Any] | None = None
    seeds: list[int] | None = None
    time_limit_s: float = MISSING
    jobs: int = MISSING
    resume: bool = MISSING
    update_best_known: bool = MISSING
    best_known: str | None = None
    out: str | None = None


@dataclass
class TrainCostModelConfig:
    """Values of ``remora train-cost-model``; ``training`` has those of the networks."""

    dataset: Any = MISSING
    training: CostTrainingSection = field(default_factory=CostTrainingSection)
    tracker: dict[str, Any] = field(default_factory=dict)
    held_out_share: float = MISSING
    leave_out: str | None = None
    resume: bool = MISSING
    out: str | None = None


@dataclass
class BenchFidelityConfig:
    """Values of ``remora bench fidelity``; ``training`` as in ``train-cost-model``."""

    dataset: Any = MISSING
    training: CostTrainingSection = field(default_factory=CostTrainingSection)
    families: list[str] | None = None
    seeds: list[int] = MISSING
    baseline_seeds: list[int] = MISSING
    held_out_share: float = MISSING
    jobs: int = MISSING
    resume: bool = MISSING
    out: str | None = None


@dataclass
class BenchTransferConfig:
    """Values of ``remora bench transfer``; groups are names of ``conf/transfer`` or mappings."""

    policy: str = MISSING
    groups: list[Any] = MISSING
    problems: int = MISSING
    practice: PracticeSection = field(default_factory=PracticeSection)
    fine_tune_s: float = MISSING
    time_limit_s: float = MISSING
    reference_s: float = MISSING
    seeds: list[int] = MISSING
    jobs: int = MISSING
    resume: bool = MISSING
    out: str | None = None


@dataclass
class BenchPeersConfig:
    """Values of ``remora bench peers``."""

    models: list[str] = MISSING
    ranges: list[float] = MISSING
    time_limit_s: float = MISSING
    repetitions: int = MISSING
    costs: str = MISSING
    out: str | None = None


SCHEMAS: dict[str, type] = {
    "optimize": OptimizeConfig,
    "fits": FitsConfig,
    "verify": VerifyConfig,
    "replan": ReplanConfig,
    "train_agent": TrainAgentConfig,
    "bench_quality": BenchQualityConfig,
    "bench_fidelity": BenchFidelityConfig,
    "bench_transfer": BenchTransferConfig,
    "bench_peers": BenchPeersConfig,
    "profile": ProfileConfig,
    "train_cost_model": TrainCostModelConfig,
}
