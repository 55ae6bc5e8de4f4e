"""Split-conformal upper bounds: how far above a prediction the truth may lie, from held-out scores.

Split conformal prediction: Papadopoulos et al. 2002; Lei et al. 2018,
https://arxiv.org/abs/1604.04173. Scores that come in groups, as schedules of one graph do, where
only the groups are exchangeable: Lee, Barber and Willett 2023, https://arxiv.org/abs/2306.06342.
A group of a new family is further away than another one of a known family, and few families do not
show how far: the most that they have to say is the largest of their own bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.errors import InvalidInputError

__all__ = [
    "Coverage",
    "coverage",
    "family_upper_quantile",
    "grouped_upper_quantile",
    "upper_quantile",
    "wilson_interval",
]

Floats = NDArray[np.float64]


def upper_quantile(scores: Floats, confidence: float) -> float:
    """The score that a new one stays below with probability ``confidence`` or more.

    The ``ceil((n + 1) * confidence)``-th smallest of n scores, infinite if there are too few.

    Args:
        scores: of held-out cases that are exchangeable with the new one.  # [n]
        confidence: between 0 and 1.

    Raises:
        InvalidInputError: the confidence is out of range.
    """
    return grouped_upper_quantile(scores, range(len(scores)), confidence)


def grouped_upper_quantile(scores: Floats, groups: Sequence[object], confidence: float) -> float:
    """The same where scores of a group belong together and only groups are exchangeable.

    Every group weighs the same, however many scores it has, and so does the new one, whose scores
    might be infinite. With one score per group this is :func:`upper_quantile`.

    Args:
        scores: of held-out cases.  # [n]
        groups: which group each belongs to.  # [n]
        confidence: between 0 and 1.

    Raises:
        InvalidInputError: the confidence is out of range, or the lengths differ.
    """
    return _quantile(scores, groups, confidence, unknown=1)


def family_upper_quantile(
    scores: Floats, families: Sequence[object], groups: Sequence[object], confidence: float
) -> float:
    """The same where groups belong to families and the new one is of a family of its own.

    The largest of the quantiles of the known families and of :func:`grouped_upper_quantile` over
    all groups. If K families and the new one are exchangeable, that one's quantile exceeds the
    largest of theirs with probability 1 / (K + 1), so no less than K / (K + 1) of ``confidence``
    is promised. To promise all of it without further assumptions takes as many families as
    :func:`upper_quantile` takes scores.

    Args:
        scores: of held-out cases, each predicted without its family.  # [n]
        families: of each.  # [n]
        groups: which group each belongs to; groups of different families differ.  # [n]
        confidence: between 0 and 1.

    Raises:
        InvalidInputError: the confidence is out of range, or the lengths differ.
    """
    _check_lengths("families", families, scores)
    found = [grouped_upper_quantile(scores, groups, confidence)]
    for family in set(families):
        own = [place for place, name in enumerate(families) if name == family]
        # What a known family shows of itself needs no margin for a new group of it.
        found.append(_quantile(scores[own], [groups[place] for place in own], confidence, 0))
    return max(found)


def _quantile(scores: Floats, groups: Sequence[object], confidence: float, unknown: int) -> float:
    """Quantile in which every group weighs the same, with infinite scores of unknown groups."""
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence is {confidence}; allowed: between 0 and 1")
    _check_lengths("groups", groups, scores)
    _, owner, counts = np.unique(
        np.array([str(group) for group in groups], dtype=object).astype(str),
        return_inverse=True,
        return_counts=True,
    )
    order = np.argsort(scores, kind="stable")
    weights = (1 / counts[owner])[order] / (len(counts) + unknown) if len(scores) else np.zeros(0)
    # Sums of weights such as 1 / 20 miss the confidence by a rounding error.
    reached = np.cumsum(weights) >= confidence - 1e-9
    return float(scores[order[int(np.argmax(reached))]]) if reached.any() else math.inf


def _check_lengths(name: str, labels: Sequence[object], scores: Floats) -> None:
    if len(labels) != len(scores):
        raise InvalidInputError(
            f"{name} has {len(labels)} entries; allowed: {len(scores)}, one per score"
        )


class Coverage:
    """How often a bound held, and how far it lay above.

    Args:
        covered: whether each bound held.  # [n]
        widths: bound / prediction - 1 of each.  # [n]

    Attributes:
        count: number of cases.
        share: of the bounds that held.
        interval: 95 % Wilson interval of that share.
        mean_width: mean of the widths.
    """

    def __init__(self, covered: NDArray[np.bool_], widths: Floats) -> None:
        self.count = len(covered)
        self.share = float(np.mean(covered))
        self.interval = wilson_interval(int(np.sum(covered)), len(covered))
        self.mean_width = float(np.mean(widths))


def coverage(measured: Floats, predicted: Floats, bound: Floats) -> Coverage:
    """Hold bounds against what was measured.

    Args:
        measured: bytes.  # [n]
        predicted: bytes.  # [n]
        bound: bytes.  # [n]
    """
    return Coverage(measured <= bound, bound / predicted - 1)


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share after ``hits`` of ``count`` trials (Wilson 1927).

    Args:
        hits: trials that succeeded.
        count: all trials, 1 or more.
        z: quantile of the normal distribution; 1.96 for 95 %.
    """
    share = hits / count
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    middle = share + z * z / (2 * count)
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
