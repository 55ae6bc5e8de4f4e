"""State of one micro-batch on its way through one stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from remora.schedule.holders import IMPORT, Holder, Key, LiveStorages
from remora.schedule.host_copies import HostCopies
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.rank_context import RankContext
from remora.schedule.stage import Stage

__all__ = ["StageWalk"]


class StageWalk:
    """State of the walk: live storages, and where each unit and region finds what it needs.

    A storage lives as long as somebody holds it (see :mod:`remora.schedule.holders`). What comes
    from other stages lies in receive buffers that last the whole step; what other stages read is
    held until this stage's backward has run.

    Args:
        rank: where it runs.
        stage: its units.
        micro_batch: its number.
        number: the stage's number in the order of tasks; chimera counts both directions.
    """

    def __init__(self, rank: RankContext, stage: Stage, micro_batch: int, number: int) -> None:
        self._rank = rank
        self._builder = rank.builder
        self._stage = stage
        self._chain = stage.chain
        self._micro_batch = micro_batch
        self._number = number
        self._live = LiveStorages()
        self._copies = HostCopies(
            rank.builder, stage, self._live, rank.pending, rank.rates, micro_batch
        )
        self._current: dict[int, Key] = {}
        self._saved: dict[int, dict[int, Key]] = {unit.index: {} for unit in stage.units}
        self._inputs: dict[tuple[int, int], dict[int, Key]] = {}
        self._moved: dict[tuple[int, int], frozenset[int]] = {}
        self._filled: set[tuple[int, int]] = set()
        self._compressed: dict[int, int] = {}
        self._carried: dict[int, list[Key]] = {}
        self._import(stage.received)

    def _import(self, storages: Iterable[int]) -> None:
        for storage in storages:
            self._live.add((storage, 0), self._builder.buffer(0, MemoryKind.RECEIVE), {IMPORT})
            self._current[storage] = (storage, 0)

    def _add(self, key: Key, holders: set[Holder], num_bytes: int | None = None) -> int:
        what = {holder.what for holder in holders}
        kind = MemoryKind.SAVED if what & {"save", "copy", "weights"} else MemoryKind.BOUNDARY
        kind = MemoryKind.IN_FLIGHT if what == {"copy"} else kind
        size = self._chain.num_bytes(key[0]) if num_bytes is None else num_bytes
        buffer = self._builder.buffer(size, kind)
        self._live.add(key, buffer, holders)
        return buffer

    def _drop_times(self, keys: Iterable[Key]) -> list[tuple[int, int]]:
        return [(key[0], self._chain.graph.storages[key[0]].dropped) for key in keys]

    def _following(self, unit: int, upcoming: int | None) -> Sequence[int]:
        """Units of the stage whose weights are asked for where ``unit`` starts."""
        stage = self._stage
        if self._chain.graph.forward_only:
            return range(unit + 1, min(unit + 1 + stage.distance, stage.end))
        inside = upcoming is not None and stage.start <= upcoming < stage.end
        return (upcoming,) if upcoming is not None and inside else ()

    def _compute(
        self,
        kind: InstructionKind,
        unit: int,
        duration_s: float,
        transient_bytes: int,
        allocates: Iterable[int] = (),
        releases: Iterable[int] = (),
        upcoming: int | None = None,
        weights_stay: bool = False,
        collective_s: float = 0.0,
    ) -> None:
        """Append a compute instruction of this micro-batch; its weights go unless they stay."""
        self._rank.before_compute(
            unit, self._following(unit, upcoming), self._micro_batch, self._number
        )
        gone = [] if weights_stay else self._rank.weights_done(unit)
        self._builder.compute(
            kind,
            unit,
            self._micro_batch,
            duration_s,
            transient_bytes,
            stage=self._number,
            allocates=allocates,
            releases=[*releases, *gone],
            collective_s=collective_s,
        )
