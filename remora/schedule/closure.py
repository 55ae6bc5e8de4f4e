"""Which operators have to run again so that some blocks of memory exist again.

The planner asks this of traced operators and the executor of recorded calls, so that both run the
same ones. Memory is looked at in whole storages: an operator that writes to a part of one counts as
a step of its making.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "LAYOUT_ONLY",
    "RELABELLING",
    "Closure",
    "ClosureFinder",
    "Step",
    "closure_of",
    "is_collective",
    "is_scratch",
]

LAYOUT_ONLY = frozenset(
    {
        "empty_like",
        "full_like",
        "new_empty",
        "new_empty_strided",
        "new_full",
        "new_ones",
        "new_zeros",
        "ones_like",
        "rand_like",
        "randint_like",
        "randn_like",
        "zeros_like",
    }
)
"""Operators that look at the layout of their tensor argument and not at its values."""

RELABELLING = frozenset(
    {
        "as_strided_",
        "detach_",
        "squeeze_",
        "swapaxes_",
        "swapdims_",
        "t_",
        "transpose_",
        "unsqueeze_",
    }
)
"""Operators that change how a tensor views its memory and not the memory, whatever they declare."""

_COLLECTIVES = frozenset(
    {"_c10d_functional", "_c10d_functional_autograd", "c10d", "c10d_functional"}
)
_STATISTICS = frozenset({"running_mean", "running_var"})


def is_collective(namespace: str) -> bool:
    """Whether operators of the namespace talk to other ranks, so that none may run them again."""
    return namespace in _COLLECTIVES


def is_scratch(packet: str, argument: str) -> bool:
    """Whether an operator writes to the argument without any result depending on what was there.

    Batch norm updates its running statistics and computes with those of the batch; in evaluation
    mode it reads them and leaves them as they are.

    Args:
        packet: name without namespace and overload, for example ``native_batch_norm``.
        argument: its name in the operator's schema.
    """
    return argument in _STATISTICS and "batch_norm" in packet


@dataclass(frozen=True, slots=True)
class Step:
    """One operator. Storages are numbers of the caller's.

    Attributes:
        reads: storages whose content it needs, those it changes included.
        makes: storages that it allocates.
        writes: storages that it changes and that exist before.
        scratch: storages that it changes whatever they hold, see :func:`is_scratch`; not in the
            others.
        barrier: must not run again.
    """

    reads: tuple[int, ...] = ()
    makes: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    scratch: tuple[int, ...] = ()
    barrier: bool = False


@dataclass(frozen=True, slots=True)
class Closure:
    """What runs again.

    Attributes:
        steps: positions of the operators, ascending.
        remade: by position, the storages that the operator finds made again (or, for one from
            outside, copied as it was at first) instead of as they are.
        sources: storages that operators find as they are.
        copied: storages from outside that operators find as they were before the first write.
    """

    steps: tuple[int, ...]
    remade: Mapping[int, frozenset[int]]
    sources: frozenset[int]
    copied: frozenset[int]


def closure_of(
    steps: Sequence[Step], wanted: Collection[int], available: Collection[int]
) -> Closure:
    """Find the least set of operators that makes ``wanted`` as they were after all of ``steps``.

    Args:
        steps: all operators, in the order in which they ran.
        wanted: storages that some of them made.
        available: storages made by some of them that are still there, in their last state. What
            none of them made is there too.
    """
    return ClosureFinder(steps).find(wanted, available)


class ClosureFinder:
    """Finds closures among the same operators again and again; see :func:`closure_of`.

    Args:
        steps: all operators, in the order in which they ran.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._made = {storage for step in steps for storage in step.makes}
        self._writes: dict[int, list[int]] = {}
        for position, step in enumerate(steps):
            for storage in (*step.makes, *step.writes):
                self._writes.setdefault(storage, []).append(position)

    def find(self, wanted: Collection[int], available: Collection[int]) -> Closure:
        """Walk back from ``wanted``, write by write."""
        remade: dict[int, frozenset[int]] = {}
        sources: set[int] = set()
        there = set(available)
        waiting = [position for storage in wanted for position in self._writes[storage]]
        while waiting:
            position = waiting.pop()
            if position in remade:
                continue
            private = set()
            for storage in self._steps[position].reads:
                before = self._writes_before(storage, position, there)
                if before is None:
                    sources.add(storage)
                else:
                    private.add(storage)
                    waiting += before
            remade[position] = frozenset(private)
        copied = {s for private in remade.values() for s in private} - self._made
        return Closure(tuple(sorted(remade)), remade, frozenset(sources), frozenset(copied))

    def _writes_before(self, storage: int, position: int, there: set[int]) -> list[int] | None:
        """Operators that bring ``storage`` to what ``position`` reads; None if it is there."""
        writes = self._writes.get(storage, [])
        before = [write for write in writes if write < position]
        lasting = storage in there or storage not in self._made
        return None if lasting and len(before) == len(writes) else before
