"""What comes from the host for the units of a pass, and leaves the device after them."""

from __future__ import annotations

from remora.executor.passes.cache_stream import CacheStream
from remora.executor.state.weight_stream import WeightStream

__all__ = ["PassPoints", "PassStreams"]


class PassStreams:
    """Weights and caches of one model under a plan of inference.

    Args:
        weights: that wait on the host; None if all stay on the device.
        caches: that wait on the host; None if none does.
    """

    def __init__(self, weights: WeightStream | None, caches: CacheStream | None) -> None:
        self.weights = weights
        self.caches = caches

    def close(self) -> None:
        """Bring the caches that are still in use back to the device."""
        if self.caches is not None:
            self.caches.close()


class PassPoints:
    """The forwards of one pass.

    The weights and the cache of a unit are asked for where the unit ``distance`` before it starts,
    or where the pass does, as :mod:`remora.schedule.weight_fetch` has it.

    Args:
        streams: of the model.
        end: number of units.
        distance: how many units ahead is asked for.
    """

    def __init__(self, streams: PassStreams, end: int, distance: int) -> None:
        self._streams = streams
        self._end = end
        self._distance = distance

    def forward(self, unit: int) -> None:
        """Note that the forward of a unit begins, and that of the one before it has ended."""
        following = range(unit + 1, min(unit + 1 + self._distance, self._end))
        weights, caches = self._streams.weights, self._streams.caches
        if caches is not None:
            caches.leave(unit)
        if weights is not None:
            weights.leave(unit)
            weights.use(unit, following)
        if caches is not None:
            caches.use(unit, following)

    def finish(self) -> None:
        """Note that the pass has ended."""
        if self._streams.caches is not None:
            self._streams.caches.finish()
        if self._streams.weights is not None:
            self._streams.weights.finish()
