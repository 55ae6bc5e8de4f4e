"""The learned correction of the simulator: step time by a network, peak by a bounded remainder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remora.cost_models.gnn.step_examples import StepExample
from remora.cost_models.gnn.step_features import EncodedSteps, encoder_of
from remora.cost_models.gnn.step_network import (
    StepBatch,
    StepNetwork,
    batch_of_graph,
    join_steps,
)
from remora.cost_models.gnn.step_peak import (
    PeakBound,
    PeakHead,
    difficulty,
    fit_peak,
)
from remora.cost_models.gnn.step_training import (
    StepTrainingConfig,
    TrainedMember,
    Watch,
    train_members,
)
from remora.errors import FileFormatError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.compiled import Figures, simulator_of

__all__ = ["Corrected", "Offsets", "StepModel", "fit_step_model"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Corrected:
    """Figures of schedules after correction.

    Attributes:
        step_time_s: seconds.  # [n]
        spread: standard deviation of their logarithm over the ensemble.  # [n]
        peak_bytes: peak of the fullest rank.  # [n]
        bound_bytes: upper bound on it, at least the peak.  # [n]
        confidence: share of runs that the bound is meant to cover; 0 where it is not calibrated.
            # [n]
        notes: one sentence per reason why figures are the simulator's own.
    """

    step_time_s: Floats
    spread: Floats
    peak_bytes: Ints
    bound_bytes: Ints
    confidence: Floats
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offsets:
    """What measurements of the model at hand showed beyond the training: log offsets.

    Attributes:
        step: of the step time.
        peak: of the peak.
        quantile: that takes the place of the calibrated one; None for that one.
    """

    step: float = 0.0
    peak: float = 0.0
    quantile: float | None = None


class StepModel:
    """Corrects simulated figures of schedules on one rank of a device like those it learned from.

    Args:
        networks: the ensemble, at least one.
        head: of the peak.
        bound: on the peak.
        device_types: what it learned from, ``cpu`` or ``cuda``.
        step_spreads: deviation of the log error of step times on graphs that were held out, from
            graph to graph and within graphs.
        offsets: of the model at hand.
    """

    def __init__(
        self,
        networks: Sequence[StepNetwork],
        head: PeakHead,
        bound: PeakBound,
        device_types: Sequence[str],
        step_spreads: tuple[float, float],
        offsets: Offsets | None = None,
    ) -> None:
        self._networks = tuple(networks)
        self._head = head
        self.bound = bound
        self.device_types = tuple(sorted(set(device_types)))
        self.step_spreads = step_spreads
        self.offsets = offsets or Offsets()

    def with_offsets(self, offsets: Offsets) -> StepModel:
        """The same model with other offsets."""
        return StepModel(
            self._networks, self._head, self.bound, self.device_types, self.step_spreads, offsets
        )

    def notes(self, device_type: str) -> tuple[str, ...]:
        """Why steps on a type of device are not corrected; empty if they are."""
        if device_type in self.device_types:
            return ()
        return (
            f"no step was measured on a device of type {device_type!r}, only on "
            f"{', '.join(self.device_types)}: step times and peaks are the simulator's",
        )

    def correct(
        self,
        problem: Problem,
        schedules: Sequence[Schedule],
        figures: Sequence[Figures] | None = None,
    ) -> Corrected:
        """Correct simulated figures.

        Several ranks or micro-batches, and devices of a type that was not measured, keep those of
        the simulator.

        Args:
            problem: graph, costs and hardware.
            schedules: valid ones.
            figures: the simulator's.
        """
        figures = simulator_of(problem).batch(schedules) if figures is None else figures
        result = _uncorrected(figures)
        notes = self.notes(problem.hardware.device_type)
        if notes:
            return replace(result, notes=notes)
        places = [place for place, schedule in enumerate(schedules) if _on_one_rank(schedule)]
        if len(places) < len(schedules):
            note = (
                "no step with several ranks or micro-batches was measured: its step time and "
                "peaks are the simulator's"
            )
            result = replace(result, notes=(note,))
        if places:
            encoded = encoder_of(problem).encode(
                [schedules[place] for place in places], [figures[place] for place in places]
            )
            _put(result, places, self.correct_encoded(encoded))
        return result

    def correct_encoded(self, encoded: EncodedSteps) -> Corrected:
        """Correct schedules of one graph that are encoded already."""
        return self._corrected(
            self._log_ratios(batch_of_graph(encoded)),
            encoded.step_s,
            encoded.steps,
            encoded.peak_bytes,
        )

    def predict(self, examples: Sequence[StepExample]) -> Corrected:
        """Correct steps of any graphs."""
        encoded = [example.encoded for example in examples]
        return self._corrected(
            self._log_ratios(join_steps([batch_of_graph(one) for one in encoded])),
            np.concatenate([one.step_s for one in encoded]),
            np.concatenate([one.steps for one in encoded]),
            np.concatenate([one.peak_bytes for one in encoded]),
        )

    def _log_ratios(self, batch: StepBatch) -> Floats:
        """Correction of every member.  # [members, n]."""
        with torch.no_grad():
            ratios = [network(batch).numpy().astype(np.float64) for network in self._networks]
        return np.stack(ratios)

    def _corrected(
        self, ratios: Floats, step_s: Floats, steps: Floats, peak_bytes: Ints
    ) -> Corrected:
        offsets = self.offsets
        peak = peak_bytes * np.exp(self._head.log_ratio(steps) + offsets.peak)
        quantile = self.bound.quantile if offsets.quantile is None else offsets.quantile
        calibrated = math.isfinite(quantile)
        hard = difficulty(steps, self.bound.scale)
        rise = np.exp(max(quantile, 0.0) * hard) if calibrated else np.ones(len(peak))
        rounded = np.rint(peak).astype(np.int64)
        return Corrected(
            step_time_s=step_s * np.exp(ratios.mean(axis=0) + offsets.step),
            spread=ratios.std(axis=0),
            peak_bytes=rounded,
            bound_bytes=np.maximum(np.ceil(peak * rise).astype(np.int64), rounded),
            confidence=np.full(len(peak), self.bound.confidence if calibrated else 0.0),
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights by name, and everything else as plain JSON values."""
        tensors = {
            f"{number}.{name}": tensor
            for number, network in enumerate(self._networks)
            for name, tensor in network.state_dict().items()
        }
        for name in ("mean", "std", "weight"):
            tensors[f"peak.{name}"] = torch.from_numpy(getattr(self._head, name))
        bound = asdict(self.bound)
        # JSON has no infinity.
        bound["quantile"] = bound["quantile"] if math.isfinite(bound["quantile"]) else None
        first = self._networks[0]
        values = {
            "members": len(self._networks),
            "hidden": first.hidden,
            "layers": len(first.layers),
            "bound": bound,
            "device_types": list(self.device_types),
            "step_spreads": list(self.step_spreads),
            "offsets": asdict(self.offsets),
        }
        return tensors, values

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> StepModel:
        """Put a model together again.

        Raises:
            FileFormatError: something is missing or has another size.
        """
        try:
            networks = []
            for number in range(values["members"]):
                network = StepNetwork(values["hidden"], values["layers"])
                prefix = f"{number}."
                network.load_state_dict(
                    {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                )
                networks.append(network.eval())
            head = PeakHead(*(tensors[f"peak.{n}"].numpy() for n in ("mean", "std", "weight")))
            bound = dict(values["bound"])
            if bound["quantile"] is None:
                bound["quantile"] = math.inf
            between, within = values["step_spreads"]
            return cls(
                networks,
                head,
                PeakBound(**bound),
                values["device_types"],
                (float(between), float(within)),
                Offsets(**values["offsets"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise FileFormatError(f"the weights of the step model do not fit: {reason}") from error


def fit_step_model(
    examples: Sequence[StepExample],
    config: StepTrainingConfig,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
    peaks: Sequence[StepExample] | None = None,
) -> StepModel:
    """Learn from measured steps.

    Args:
        examples: see :func:`remora.cost_models.gnn.step_examples.step_examples`.
        config: values of the training.
        watch: called after every epoch.
        checkpoint: file to resume from.
        peaks: steps from which the peak and its bound are learned, see
            :func:`remora.cost_models.gnn.left_out_peaks.left_out_peaks`; None takes the examples.

    Raises:
        InvalidInputError: there is no example.
        FileFormatError: the checkpoint is damaged or belongs to another training.
    """
    members = train_members(examples, config, watch, checkpoint)
    peaks = examples if peaks is None else peaks
    steps = np.concatenate([example.encoded.steps for example in peaks])
    measured = np.array([float(example.row.peak_memory_bytes) for example in peaks])
    simulated = np.concatenate([example.encoded.peak_bytes for example in peaks])
    head, bound = fit_peak(
        steps,
        np.log(measured / simulated),
        [example.family for example in peaks],
        [example.subject for example in peaks],
        config.confidence,
    )
    return StepModel(
        [member.network for member in members],
        head,
        bound,
        [example.problem.hardware.device_type for example in examples],
        _held_out_spreads(members, examples),
    )


def _held_out_spreads(
    members: Sequence[TrainedMember], examples: Sequence[StepExample]
) -> tuple[float, float]:
    """Spreads of the log error on graphs that a member did not see; on all if it saw them all."""
    errors: list[float] = []
    subjects: list[str] = []
    for member in members:
        places = member.held_out if len(member.held_out) else np.arange(len(examples))
        chosen = [examples[place] for place in places]
        with torch.no_grad():
            ratios = member.network(join_steps([batch_of_graph(e.encoded) for e in chosen]))
        for example, ratio in zip(chosen, ratios.tolist(), strict=True):
            simulated_s = float(example.encoded.step_s[0])
            errors.append(math.log(example.row.step_time_s / simulated_s) - ratio)
            subjects.append(example.subject)
    return _spreads(np.array(errors), subjects)


def _spreads(errors: Floats, subjects: Sequence[str]) -> tuple[float, float]:
    """Spread of errors from graph to graph and within graphs, by medians, as a deviation each."""
    groups: dict[str, list[float]] = {}
    for subject, error in zip(subjects, errors.tolist(), strict=True):
        groups.setdefault(subject, []).append(error)
    means = {subject: float(np.median(values)) for subject, values in groups.items()}
    inside = [abs(e - means[s]) for s, e in zip(subjects, errors.tolist(), strict=True)]
    return _deviation([abs(mean) for mean in means.values()]), _deviation(inside)


def _deviation(distances: Sequence[float]) -> float:
    """Standard deviation of a normal distribution with this median distance from its middle."""
    return 1.4826 * float(np.median(distances))


def _on_one_rank(schedule: Schedule) -> bool:
    return schedule.pipeline.num_ranks == 1 and schedule.pipeline.micro_batches == 1


def _uncorrected(figures: Sequence[Figures]) -> Corrected:
    """The simulator's figures; the arrays are filled in where a correction is known."""
    peaks = np.array([one.max_peak_bytes for one in figures], dtype=np.int64)
    return Corrected(
        step_time_s=np.array([one.step_time_s for one in figures], dtype=np.float64),
        spread=np.zeros(len(figures)),
        peak_bytes=peaks,
        bound_bytes=peaks.copy(),
        confidence=np.zeros(len(figures)),
    )


def _put(result: Corrected, places: Sequence[int], part: Corrected) -> None:
    for name in ("step_time_s", "spread", "peak_bytes", "bound_bytes", "confidence"):
        getattr(result, name)[places] = getattr(part, name)
