"""Longest chains of work through the units of one micro-batch, wherever the units run.

A forward of a unit follows those that make what it reads; a backward follows its own forward and
the backwards that make the gradients it reads. Units that do not need each other may overlap if
they are on different ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import Chain, ChainUnit

__all__ = ["Paths", "paths_of"]


@dataclass(frozen=True, slots=True)
class Paths:
    """Seconds of the longest chains; all sequences have one entry per unit.

    Attributes:
        head_s: of forwards that precede the forward of a unit.
        tail_s: of backwards that follow the backward of a unit.
        whole_s: from the first forward to the end of the last backward.
        work_s: forward and backward of a unit.
        early_s: the same without what a split backward may put off.
    """

    head_s: Sequence[float]
    tail_s: Sequence[float]
    whole_s: float
    work_s: Sequence[float]
    early_s: Sequence[float]


def paths_of(chain: Chain, split: bool) -> Paths:
    """Find the chains, once per chain.

    Args:
        chain: per-unit tables.
        split: backwards may come in two halves, the one for weights later.
    """
    key = ("paths", split)
    if key not in chain.memo:
        chain.memo[key] = _paths(chain, split)
    found: Paths = chain.memo[key]
    return found


def _paths(chain: Chain, split: bool) -> Paths:
    units = chain.units
    forward_s = [unit.forward_s for unit in units]
    input_s = [_input_s(chain, unit) if split else unit.backward_s for unit in units]
    makers = [{chain.creator_unit[s] for s in unit.inputs} for unit in units]
    backward_makers = _backward_makers(chain)
    head_s = _longest(range(len(units)), makers, forward_s)
    order = range(len(units) - 1, -1, -1)
    ends_s = [head + own for head, own in zip(head_s, forward_s, strict=True)]
    begin_s = _longest(order, backward_makers, input_s, ends_s.__getitem__)
    readers: list[set[int]] = [set() for _ in units]
    for unit, found in enumerate(backward_makers):
        for maker in found:
            readers[maker].add(unit)
    whole = (begin + unit.backward_s for begin, unit in zip(begin_s, units, strict=True))
    return Paths(
        head_s=head_s,
        tail_s=_longest(range(len(units)), readers, input_s),
        whole_s=max(whole),
        work_s=[unit.forward_s + unit.backward_s for unit in units],
        early_s=[forward + early for forward, early in zip(forward_s, input_s, strict=True)],
    )


def _longest(
    order: Sequence[int],
    before: Sequence[set[int]],
    own_s: Sequence[float],
    start_s: Callable[[int], float] = lambda _: 0.0,
) -> list[float]:
    """Longest chain that ends before each node, in an order in which all of ``before`` is done."""
    found = [0.0] * len(own_s)
    for node in order:
        chains = (found[other] + own_s[other] for other in before[node])
        found[node] = max(chains, default=0.0)
        found[node] = max(found[node], start_s(node))
    return found


def _input_s(chain: Chain, unit: ChainUnit) -> float:
    return chain.half_time_s(chain.split(unit.index).inputs)


def _backward_makers(chain: Chain) -> list[set[int]]:
    """Later units whose backward makes what the backward of each unit reads."""
    graph = chain.graph
    makers: list[set[int]] = []
    for unit in chain.units:
        read = {
            graph.tensors[tensor].storage
            for op in range(*unit.backward)
            for tensor in graph.ops[op].inputs
        }
        records = (graph.storages[storage] for storage in read)
        makers.append(
            {
                graph.ops[record.created].unit
                for record in records
                if graph.num_forward_ops <= record.created < unit.backward[0]
                and record.role != GRADIENT
            }
        )
    return makers
