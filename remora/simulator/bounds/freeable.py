"""What a schedule may take out of memory during a step, and what bringing it back costs at least.

A saved storage is *free* at the start of a unit's backward if it is not in memory although the
backward of an earlier unit still needs it. It comes back by recomputation, over the host link or
from a compressed copy; here stands the least that each way costs, so that a bound can choose among
them by linear programming.

Recomputation. If the unit that makes a storage saves it too, the operators that make it run again,
with every other saved storage of the unit there: less than that no partial option and no region
can run. An operator that several storages need is paid by all of them together, in proportion to
their bytes; so the shares of any set of storages never add up to more than the set costs. A
storage that only later units save comes back with the whole forward of its maker, since only a
region that does not end with the maker makes it again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from remora.graph.kinds import dtype_bytes
from remora.schedule.chain import Chain, ChainUnit, SavedStorage
from remora.schedule.closure import closure_of
from remora.schedule.recompute import BLOCK_ELEMENTS, can_compress, unit_steps
from remora.simulator.bounds.backward_points import BackwardPoint

__all__ = ["Freeable", "Piece", "Pinned", "freeable_storages"]

_SCALE_BYTES = 4
# Pieces of one group whose seconds per byte differ by less than this count as the cheapest.
_SAME_PRICE = 1.02


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that recomputation frees at one price."""

    num_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Freeable:
    """Saved storages of one maker and the same lifetime.

    Attributes:
        low: the first unit that saves them, whose backward is the last to need them.
        creator: the unit that makes them.
        num_bytes: of all of them.
        largest_bytes: of the largest.
        present_at: units above ``low`` at the start of whose backward they are in memory anyway.
        pieces: by recomputation, cheapest first; none if that is impossible.
        whole_unit: recomputation runs the whole maker again.
        compressible_bytes, compressed_bytes: of those that can be compressed, before and after.
    """

    low: int
    creator: int
    num_bytes: int
    largest_bytes: int
    present_at: frozenset[int]
    pieces: tuple[Piece, ...]
    whole_unit: bool
    compressible_bytes: int
    compressed_bytes: int

    @property
    def computed_bytes(self) -> int:
        """Most bytes that can be free without the host link."""
        if self.pieces:
            return self.num_bytes
        return self.compressible_bytes - self.compressed_bytes


@dataclass(frozen=True, slots=True)
class Pinned:
    """Saved storages of units that must keep everything.

    Attributes:
        total_bytes: of all of them.
        beside_bytes: of those held beside each point and not part of it.  # [num_units]
    """

    total_bytes: int
    beside_bytes: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Item:
    storage: int
    num_bytes: int
    creator: int
    savers: tuple[int, ...]
    present_at: tuple[int, ...]

    @property
    def key(self) -> tuple[int, int, bool, tuple[int, ...]]:
        return self.savers[0], self.creator, self.local, self.present_at

    @property
    def local(self) -> bool:
        return self.creator in self.savers


def freeable_storages(
    chain: Chain, points: Sequence[BackwardPoint], lossy: bool
) -> tuple[tuple[Freeable, ...], Pinned]:
    """Group all storages that some schedule can free, and count the others.

    Args:
        chain: per-unit tables.
        points: what is there at the start of every backward.  # [num_units]
        lossy: whether compression is allowed.
    """
    free: list[_Item] = []
    total, beside = 0, [0] * len(points)
    for item in _items(chain):
        fixed = [unit for unit in item.savers if chain.units[unit].fixed]
        if not fixed:
            free.append(item)
            continue
        total += item.num_bytes
        for position in range(fixed[0] + 1, len(points)):
            beside[position] += 0 if position in item.present_at else item.num_bytes
    seconds = _local_seconds(chain)
    ordered = sorted(free, key=lambda item: item.key)
    groups = (list(alike) for _, alike in groupby(ordered, key=lambda item: item.key))
    return tuple(_group(chain, items, seconds, lossy) for items in groups), Pinned(total, beside)


def _items(chain: Chain) -> list[_Item]:
    """Saved storages of some size."""
    savers: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for unit in chain.units:
        for saved in unit.saved:
            savers.setdefault(saved.storage, []).append(unit.index)
            sizes[saved.storage] = saved.num_bytes
    # Backwards run from the last unit to the first.
    starts = [-unit.backward[0] for unit in chain.units]
    found = []
    for storage, units in savers.items():
        # The program holds it while it has not been dropped.
        running = bisect_right(starts, -chain.graph.storages[storage].dropped)
        later = {*units[1:], *range(max(units[0] + 1, running), len(starts))}
        creator = chain.creator_unit[storage]
        if sizes[storage]:
            found.append(
                _Item(storage, sizes[storage], creator, tuple(units), tuple(sorted(later)))
            )
    return found


def _group(
    chain: Chain, items: Sequence[_Item], seconds: Mapping[int, float], lossy: bool
) -> Freeable:
    first = items[0]
    compressed = [(i.num_bytes, _compressed_bytes(chain, i)) for i in items if lossy]
    smaller = [(before, after) for before, after in compressed if after < before]
    return Freeable(
        low=first.savers[0],
        creator=first.creator,
        num_bytes=sum(item.num_bytes for item in items),
        largest_bytes=max(item.num_bytes for item in items),
        present_at=frozenset(first.present_at),
        pieces=_pieces(chain, items, seconds),
        whole_unit=not first.local,
        compressible_bytes=sum(before for before, _ in smaller),
        compressed_bytes=sum(after for _, after in smaller),
    )


def _pieces(
    chain: Chain, items: Sequence[_Item], seconds: Mapping[int, float]
) -> tuple[Piece, ...]:
    maker = chain.units[items[0].creator]
    if maker.fixed:
        return ()
    if not items[0].local:
        num_bytes = sum(item.num_bytes for item in items)
        return (Piece(num_bytes, maker.forward_s + maker.hooks_s),)
    alone = [Piece(item.num_bytes, seconds[item.storage]) for item in items]
    return tuple(_merged(sorted(alone, key=lambda piece: piece.seconds / piece.num_bytes)))


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Put pieces of nearly one price together, at the lowest price among them."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged:
            last = merged[-1]
            price = last.seconds / last.num_bytes
            if piece.seconds <= price * _SAME_PRICE * piece.num_bytes:
                both = last.num_bytes + piece.num_bytes
                merged[-1] = Piece(both, price * both)
                continue
        merged.append(piece)
    return merged


def _compressed_bytes(chain: Chain, item: _Item) -> int:
    """Least size of a compressed copy; the size itself where there can be none."""
    graph = chain.graph
    units = [graph.units[unit] for unit in item.savers]
    able = next((unit for unit in units if can_compress(graph, unit, item.storage)), None)
    if able is None:
        return item.num_bytes
    tensor = next(s.tensor for s in able.saved if graph.storage_of(s) == item.storage)
    itemsize = dtype_bytes(graph.tensors[tensor].dtype)
    elements = graph.storages[item.storage].num_bytes // itemsize
    return elements + _SCALE_BYTES * -(-elements // BLOCK_ELEMENTS)


def _local_seconds(chain: Chain) -> dict[int, float]:
    """Each storage's share of the operators that make it again, if its maker saves it."""
    needs: dict[str, list[list[int]]] = {}
    found: dict[int, float] = {}
    for unit in chain.units:
        own = [saved for saved in unit.saved if saved.created_here]
        if own:
            if unit.kind not in needs:
                needs[unit.kind] = _needs(chain, unit, own)
            found.update(_shares(chain, unit, own, needs[unit.kind]))
    return found


def _needs(chain: Chain, unit: ChainUnit, own: Sequence[SavedStorage]) -> list[list[int]]:
    """Positions of the operators that make each storage again, all other saved ones there."""
    steps = unit_steps(chain.graph, chain.graph.units[unit.index])
    saved = {s.storage for s in unit.saved}
    # A region that ends with this unit stops before the operators that nothing saved needs.
    count = unit.stop_op - unit.forward[0]
    closures = (closure_of(steps, (s.storage,), saved - {s.storage}) for s in own)
    return [[position for position in found.steps if position < count] for found in closures]


def _shares(
    chain: Chain, unit: ChainUnit, own: Sequence[SavedStorage], needs: Sequence[Sequence[int]]
) -> dict[int, float]:
    payers: dict[int, int] = {}
    for saved, positions in zip(own, needs, strict=True):
        for position in positions:
            payers[position] = payers.get(position, 0) + saved.num_bytes
    times = chain.costs.op_time_s[unit.forward[0] : unit.forward[1]]
    overhead_s = chain.costs.saved_tensor_overhead_s
    return {
        saved.storage: overhead_s * len(saved.names)
        + sum(times[p] * saved.num_bytes / payers[p] for p in positions if payers[p])
        for saved, positions in zip(own, needs, strict=True)
    }
