"""What the micro-batches of one rank share while they are lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from remora.schedule.builder import RankBuilder
from remora.schedule.gradients import Gradients
from remora.schedule.host_copies import HostLinkRates, PendingStores
from remora.schedule.weight_fetch import WeightFetch

__all__ = ["RankContext"]


@dataclass
class RankContext:
    """One rank.

    Attributes:
        builder: its instructions.
        rates: its share of the host link.
        gradients: its gradient buffers.
        fetches: weights that are not there all the time.
        pending: copies to the host that it has to wait for.
        optimizer_waits: instructions that must have ended before its optimizer step.
    """

    builder: RankBuilder
    rates: HostLinkRates
    gradients: Gradients
    fetches: tuple[WeightFetch, ...] = ()
    pending: PendingStores = field(default_factory=PendingStores)
    optimizer_waits: list[int] = field(default_factory=list)

    def before_compute(
        self, unit: int, following: Sequence[int], micro_batch: int, stage: int
    ) -> None:
        """Prepare the next compute instruction: gradients that left, weights that it needs."""
        self.gradients.before_compute()
        for fetch in self.fetches:
            fetch.use(unit, following, micro_batch, stage)

    def weights_done(self, unit: int) -> list[int]:
        """Buffers of a unit's weights that can be released after its use."""
        return [buffer for fetch in self.fetches for buffer in fetch.done(unit)]

    def take_cache(self, unit: int) -> tuple[int, float] | None:
        """The buffer of a unit's cache that came from the host, and the seconds back."""
        caches = (fetch.take_cache(unit) for fetch in self.fetches)
        return next((cache for cache in caches if cache is not None), None)
