"""What the bounds say."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LowerBounds"]


@dataclass(frozen=True, slots=True)
class LowerBounds:
    """Step times that no schedule of a problem goes below; infinite if no schedule fits.

    Attributes:
        work_s: the computation of one step, shared by the ranks.
        path_s: what has to happen one after the other.
        transfer_s: copies over the host link that no schedule within the budget avoids.
        memory_s: all of these together with what the budget forces to be computed again, copied
            or compressed, each byte at the price of its cheapest way; the strongest one.
    """

    work_s: float
    path_s: float
    transfer_s: float
    memory_s: float

    @property
    def best_s(self) -> float:
        """The largest of them."""
        return max(self.work_s, self.path_s, self.transfer_s, self.memory_s)

    @property
    def fits(self) -> bool:
        """Whether the bounds do not already show that nothing fits."""
        return math.isfinite(self.best_s)
