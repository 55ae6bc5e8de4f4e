"""Peak memory: a small bounded correction of the simulated peak, and a conformal bound on it.

The simulator's peak is exact where workspaces are known, so little is learned: ridge regression
of the log ratio on a few features, with as much shrinkage towards no correction as families that
were left out ask for. The same left-out families give the scores of the bound, cross-conformally
(Vovk 2015, https://arxiv.org/abs/1208.0806). What scores are measured in is chosen among a few
difficulties by how wide their bounds are (Yang and Kuchibhotla 2021,
https://arxiv.org/abs/2104.13871).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.conformal import family_upper_quantile
from remora.cost_models.gnn.step_features import STEP_FEATURES

__all__ = ["PeakBound", "PeakHead", "difficulty", "fit_peak", "fit_peak_head"]

Floats = NDArray[np.float64]

LIMIT = 0.2
"""Largest logarithm of a correction."""

_FEATURES = (
    "peak_bytes",
    "peak_ratio",
    "static_share",
    "workspace_share",
    "rerun_share",
    "hooks_share",
    "copies_share",
)
_COLUMNS = [STEP_FEATURES.index(name) for name in _FEATURES]
_SHRINKAGES = (0.1, 1.0, 10.0, float("inf"))
_CLAMP = 2.0
_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class PeakHead:
    """Linear correction of a peak.

    Attributes:
        mean, std: of the features.  # [f]
        weight: of the standardised features; the last one is of the constant.  # [f + 1]
    """

    mean: Floats
    std: Floats
    weight: Floats

    def log_ratio(self, steps: Floats) -> Floats:
        """Logarithm of the correction of steps.

        Args:
            steps: step features.  # [n, G]
        """
        raw = _design(steps, self.mean, self.std) @ self.weight
        bounded: Floats = LIMIT * np.tanh(raw / LIMIT)
        return bounded


@dataclass(frozen=True)
class PeakBound:
    """What held-out families showed of the corrected peak.

    Attributes:
        quantile: of the scores, at ``confidence``; infinite if there are too few graphs.
        confidence: share of the runs that the bound is meant to cover.
        between: spread of the log error from graph to graph.
        within: its spread over the schedules of one graph.
        scale: part of every peak's difficulty, see :func:`difficulty`.
    """

    quantile: float
    confidence: float
    between: float
    within: float
    scale: float = 0.01


def difficulty(steps: Floats, scale: float) -> Floats:
    """How uncertain peaks are, up to a factor: workspaces are what traces do not show.

    Args:
        steps: step features.  # [n, G]
        scale: what counts as a share of workspace in every peak, as some that are taken are not
            predicted.

    Returns:
        # [n].
    """
    share: Floats = steps[:, STEP_FEATURES.index("workspace_share")]
    return scale + share


def fit_peak(
    steps: Floats,
    log_ratio: Floats,
    families: Sequence[str],
    subjects: Sequence[str],
    confidence: float,
) -> tuple[PeakHead, PeakBound]:
    """Fit the correction and its bound.

    Args:
        steps: step features, of peaks that are simulated without what was learned of their
            family.  # [n, G]
        log_ratio: logarithm of measured over simulated peak.  # [n]
        families: of every step; with one family only, graphs take their place.  # [n]
        subjects: graph of every step.  # [n]
        confidence: of the bound.
    """
    folds = _folds(families if len(set(families)) > 1 else subjects)
    left_out = {s: _left_out_errors(steps, log_ratio, folds, s) for s in _SHRINKAGES}
    shrinkage = min(_SHRINKAGES, key=lambda s: (float(np.mean(np.abs(left_out[s]))), -s))
    errors = left_out[shrinkage]
    scale, quantile = _narrowest(steps, errors, families, subjects, confidence)
    between, within = _spreads(errors, subjects)
    head = fit_peak_head(steps, log_ratio, shrinkage)
    return head, PeakBound(quantile, confidence, between, within, scale)


def fit_peak_head(steps: Floats, log_ratio: Floats, shrinkage: float) -> PeakHead:
    """Ridge regression towards no correction.

    Args:
        steps: step features.  # [n, G]
        log_ratio: what to predict.  # [n]
        shrinkage: prior observations of no correction per step; infinite for none at all.
    """
    chosen = steps[:, _COLUMNS]
    mean, std = chosen.mean(axis=0), np.maximum(chosen.std(axis=0), 0.02)
    design = _design(steps, mean, std)
    if np.isinf(shrinkage):
        return PeakHead(mean, std, np.zeros(design.shape[1]))
    target = np.clip(log_ratio, -LIMIT, LIMIT)
    normal = design.T @ design + shrinkage * len(design) * np.eye(design.shape[1])
    weight = np.linalg.solve(normal, design.T @ target).astype(np.float64)
    return PeakHead(mean, std, weight)


def _narrowest(
    steps: Floats,
    errors: Floats,
    families: Sequence[str],
    subjects: Sequence[str],
    confidence: float,
) -> tuple[float, float]:
    """Scale of the difficulty with the narrowest bound, and its quantile.

    A bound is as wide as in the family where it is widest: narrow in families that are easy, it
    may be too wide to be of use in a new one.
    """
    owner = _folds(families)
    counts = np.bincount(owner)
    found = []
    for scale in _SCALES:
        hard = difficulty(steps, scale)
        quantile = family_upper_quantile(errors / hard, families, subjects, confidence)
        widest = float(np.max(np.bincount(owner, hard) / counts))
        found.append((quantile * widest, scale, quantile))
    _, scale, quantile = min(found)
    return scale, quantile


def _spreads(errors: Floats, subjects: Sequence[str]) -> tuple[float, float]:
    """Spread of errors from graph to graph and within graphs, as a deviation each.

    Root mean squares: most peaks are exact, so that medians say nothing of the others.
    """
    groups: dict[str, list[float]] = {}
    for subject, error in zip(subjects, errors.tolist(), strict=True):
        groups.setdefault(subject, []).append(error)
    means = np.array([np.mean(values) for values in groups.values()])
    inside = np.concatenate([np.array(values) - np.mean(values) for values in groups.values()])
    return float(np.sqrt(np.mean(means**2))), float(np.sqrt(np.mean(inside**2)))


def _design(steps: Floats, mean: Floats, std: Floats) -> Floats:
    """Standardised features and a constant.  # [n, f + 1]."""
    scaled = np.clip((steps[:, _COLUMNS] - mean) / std, -_CLAMP, _CLAMP)
    return np.concatenate([scaled, np.ones((len(steps), 1))], axis=1)


def _folds(names: Sequence[str]) -> NDArray[np.int64]:
    """Number of every name.  # [n]."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _left_out_errors(
    steps: Floats, log_ratio: Floats, folds: NDArray[np.int64], shrinkage: float
) -> Floats:
    """Error of every step under a correction that did not see its fold.  # [n]."""
    errors = log_ratio.copy()
    for fold in range(int(folds.max()) + 1):
        inside = folds == fold
        if inside.all():
            continue
        head = fit_peak_head(steps[~inside], log_ratio[~inside], shrinkage)
        errors[inside] -= head.log_ratio(steps[inside])
    return errors
