"""Records that cross folders: estimates, measurements, verifications; and the CostModel face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted figures of one schedule.

    Attributes:
        step_time_s: seconds of one step, or of one pass of the whole batch.
        peak_memory_bytes: peak of the fullest rank.
        peak_by_rank_bytes: peak of every rank.  # [num_ranks]
        peak_bound_bytes: upper bound compared with the budget; the peak itself if uncalibrated.
        bound_confidence: share of runs the bound is meant to cover; 0 if uncalibrated.
        breakdown_bytes: bytes by kind of memory on the fullest rank at its peak.
        host_bytes: largest number of pinned host bytes.
        cost_model: who predicted.
        latency_s: in inference, seconds from the start until the first micro-batch has left the
            last stage; None in training.
        sequences_per_s: in inference, sequences that all replicas finish per second in a pass.
    """

    step_time_s: float
    peak_memory_bytes: int
    peak_by_rank_bytes: tuple[int, ...]
    peak_bound_bytes: int
    bound_confidence: float
    breakdown_bytes: Mapping[str, int]
    host_bytes: int
    cost_model: str
    latency_s: float | None = None
    sequences_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a real run of a schedule showed.

    Attributes:
        step_time_s: median over repetitions.
        step_times_s: all repetitions.
        peak_memory_bytes: largest number of live device bytes within a step, on the fullest rank.
        device: name of the device.
        status: ``ok``, ``out_of_memory``, ``crashed`` or ``timed_out``.
        detail: message of a failed run.
        peak_by_rank_bytes: peak of every rank, where there are several.  # [num_ranks]
    """

    step_time_s: float
    step_times_s: tuple[float, ...]
    peak_memory_bytes: int
    device: str
    status: str = "ok"
    detail: str = ""
    peak_by_rank_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PrecisionError:
    """What units in fewer bits did to loss and gradients, or to the outputs of a pass.

    Lengths are Euclidean. Errors of single gradients are relative to their own length, which
    counts as no smaller than a thousandth of the longest one's.

    Attributes:
        loss: difference over the loss of the plain model; in inference of all outputs together,
            over their length.
        gradients: length of the difference of all gradients together, over theirs.
        median_gradient, max_gradient: of the errors of single gradients.
        worst_gradient: name of the parameter with the largest one.
        loss_tolerance, gradient_tolerance: up to which ``loss`` and ``gradients`` pass.
        rounded_weights: what ``gradients`` would be of a plain model whose weights alone are
            rounded to bfloat16: how much the model itself makes of a rounding.
        tokens: in inference, share of the generated tokens that differ.
    """

    loss: float
    gradients: float = 0.0
    median_gradient: float = 0.0
    max_gradient: float = 0.0
    worst_gradient: str = ""
    loss_tolerance: float = 0.0
    gradient_tolerance: float = 0.0
    rounded_weights: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on a schedule after a real run: one flag per possible failure.

    Attributes:
        loss_differs, gradients_differ, buffers_differ, random_state_differs: against the plain
            model under the same seeds.
        over_budget: measured peak above the budget.
        over_bound: measured peak above the predicted upper bound by more than the tolerance.
        time_off: measured step time outside the tolerance of the prediction; a warning, since
            the machine may have been busy.
        run_failed: the run died.
        worst_gradient: name of the parameter with the largest difference; empty if none differs.
        max_gradient_difference: largest absolute difference, relative to that gradient's largest
            entry.
        measurement: the run of the schedule.
        plain: the run of the unscheduled model; None if it was not measured.
        detail: message of a failure.
        parameters_differ: after optimizer steps from the same state, against the plain model.
        worst_parameter: name of the parameter that differs most then; empty if none differs.
        max_parameter_difference: its largest absolute difference, relative to its largest entry.
        timeline: what a measured step did and when; None if it was not recorded.
        outputs_differ: in inference, what the model returns differs from the plain model's.
        tokens_differ: in inference, the tokens that it generates do.
        precision: errors of units in fewer bits, which take the place of equality; None where all
            compute in the model's own precision.
    """

    loss_differs: bool
    gradients_differ: bool
    buffers_differ: bool
    random_state_differs: bool
    over_budget: bool
    over_bound: bool
    time_off: bool
    run_failed: bool
    worst_gradient: str
    max_gradient_difference: float
    measurement: Measurement
    plain: Measurement | None = field(default=None)
    detail: str = ""
    parameters_differ: bool = False
    worst_parameter: str = ""
    max_parameter_difference: float = 0.0
    timeline: Timeline | None = None
    outputs_differ: bool = False
    tokens_differ: bool = False
    precision: PrecisionError | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the flags that are set and make the verdict negative."""
        flags = (
            "outputs_differ",
            "tokens_differ",
            "loss_differs",
            "gradients_differ",
            "parameters_differ",
            "buffers_differ",
            "random_state_differs",
            "over_budget",
            "over_bound",
            "run_failed",
        )
        return tuple(flag for flag in flags if getattr(self, flag))

    @property
    def passed(self) -> bool:
        """Whether no failure flag is set."""
        return not self.failures


class CostModel(Protocol):
    """Predicts step time and peak memory of a schedule."""

    @property
    def name(self) -> str:
        """Name in the configuration."""
        ...

    def estimate(self, problem: Problem, schedule: Schedule) -> Estimate:
        """Predict the figures of a schedule.

        Args:
            problem: what was planned for.
            schedule: for the problem's graph.

        Returns:
            Seconds of a step, and bytes at the peak of every rank with their upper bound.

        Raises:
            InvalidInputError: the schedule breaks a rule.
        """
        ...
