"""The recompute-only chain problem, and its sizes rounded up to whole memory slots.

Shapes: L = number of stages. Stage ``i`` reads boundary ``i`` and writes boundary ``i + 1``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from remora.errors import InvalidInputError

__all__ = ["Chain", "SlotChain", "common_unit", "keep_all_need", "to_slots"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chain:
    """A chain of L stages; every field is stored as a tuple of floats.

    Times and sizes may be in any unit, as long as all times share one and all sizes share one
    (inside Remora: seconds and bytes).

    Attributes:
        forward_time: time of one forward of each stage, `[L]`.
        backward_time: time of one backward of each stage, `[L]`.
        boundary_size: size of the input of each stage, then of the last output, `[L + 1]`.
        saved_size: what each stage saves for its backward, its output included, `[L]`.
        forward_workspace: extra memory only while a forward runs, `[L]`.
        backward_workspace: extra memory only while a backward runs, `[L]`.

    Raises:
        InvalidInputError: a field has the wrong length, or a value that is negative or not finite.
    """

    forward_time: Sequence[float]
    backward_time: Sequence[float]
    boundary_size: Sequence[float]
    saved_size: Sequence[float]
    forward_workspace: Sequence[float]
    backward_workspace: Sequence[float]

    def __post_init__(self) -> None:
        """Normalise every field to a tuple of floats and check it."""
        stages = len(self.forward_time)
        if stages == 0:
            raise InvalidInputError("forward_time is empty; a chain needs at least one stage")
        for field in fields(self):
            wanted = stages + 1 if field.name == "boundary_size" else stages
            values = _checked(field.name, getattr(self, field.name), wanted, stages)
            object.__setattr__(self, field.name, values)

    @property
    def num_stages(self) -> int:
        """Number of stages, L."""
        return len(self.forward_time)


def _checked(name: str, raw: Sequence[float], wanted: int, stages: int) -> tuple[float, ...]:
    values = tuple(float(value) for value in raw)
    if len(values) != wanted:
        raise InvalidInputError(
            f"{name} has {len(values)} values; a chain of {stages} stages needs {wanted}"
        )
    for index, value in enumerate(values):
        if not (math.isfinite(value) and value >= 0):
            raise InvalidInputError(
                f"{name}[{index}] is {value}; it must be a finite number, 0 or larger"
            )
    return values


class SlotChain(NamedTuple):
    """What the dynamic program reads: memory in whole slots, always rounded up.

    A named tuple of arrays, because compiled functions take it as one argument.

    Sums that one operation needs at once are rounded as a whole, not term by term, so rounding
    costs at most one slot per tensor held and one for the running operation.

    Attributes:
        forward_time: `[L]` float64.
        backward_time: `[L]` float64.
        held: a boundary held by itself, `[L + 1]`.
        saved: the saved set of a stage, `[L]`.
        save_need: added while a stage runs forward and saves, `[L]`.
        checkpoint_need: added while a stage runs forward from a held input, `[L]`.
        forget_need: a forward whose input was made in the same run, that input included, `[L]`.
        backward_need: saved set, both gradients and workspace of a backward, `[L]`.
    """

    forward_time: npt.NDArray[np.float64]
    backward_time: npt.NDArray[np.float64]
    held: IntArray
    saved: IntArray
    save_need: IntArray
    checkpoint_need: IntArray
    forget_need: IntArray
    backward_need: IntArray


def to_slots(chain: Chain, unit: Fraction, num_slots: int) -> SlotChain:
    """Round the sizes of ``chain`` up to slots of size ``unit`` (same unit as the sizes).

    Exact rational arithmetic: a plan that fits in slots always fits in the true sizes. What
    needs more than ``num_slots`` is cut to one more than that, which never fits either.
    """
    bound = [Fraction(size) for size in chain.boundary_size]
    saved = [Fraction(size) for size in chain.saved_size]
    forward = [Fraction(size) for size in chain.forward_workspace]
    backward = [Fraction(size) for size in chain.backward_workspace]
    stages = range(chain.num_stages)

    def slots(sizes: Sequence[Fraction]) -> IntArray:
        return np.array(
            [min(math.ceil(size / unit), num_slots + 1) for size in sizes], dtype=np.int64
        )

    return SlotChain(
        forward_time=np.array(chain.forward_time, dtype=np.float64),
        backward_time=np.array(chain.backward_time, dtype=np.float64),
        held=slots(bound),
        saved=slots(saved),
        save_need=slots([saved[i] + forward[i] for i in stages]),
        checkpoint_need=slots([bound[i + 1] + forward[i] for i in stages]),
        forget_need=slots([bound[i] + bound[i + 1] + forward[i] for i in stages]),
        backward_need=slots([saved[i] + bound[i] + bound[i + 1] + backward[i] for i in stages]),
    )


def keep_all_need(chain: Chain) -> Fraction:
    """Peak of the plan that recomputes nothing, without the chain's first input (exact)."""
    before = Fraction(0)
    peak = Fraction(0)
    for i in range(chain.num_stages):
        saved = Fraction(chain.saved_size[i])
        gradients = Fraction(chain.boundary_size[i]) + Fraction(chain.boundary_size[i + 1])
        forward = Fraction(chain.forward_workspace[i])
        backward = gradients + Fraction(chain.backward_workspace[i])
        before += saved
        peak = max(peak, before + forward, before + backward)
    return peak


def common_unit(chain: Chain) -> Fraction:
    """Largest size of which every size of ``chain`` is a whole multiple (1 where all are 0)."""
    sizes = [
        Fraction(size)
        for sequence in (
            chain.boundary_size,
            chain.saved_size,
            chain.forward_workspace,
            chain.backward_workspace,
        )
        for size in sequence
        if size > 0
    ]
    if not sizes:
        return Fraction(1)
    denominator = math.lcm(*(size.denominator for size in sizes))
    return Fraction(math.gcd(*(int(size * denominator) for size in sizes)), denominator)
