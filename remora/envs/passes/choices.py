"""What the decisions about a unit of a pass mean."""

from __future__ import annotations

from remora.envs.actions import FIRST_OPTION

__all__ = ["DECISIONS", "WAITING"]

DECISIONS = {
    (False, False): 0,
    (True, False): FIRST_OPTION,
    (False, True): FIRST_OPTION + 1,
    (True, True): FIRST_OPTION + 2,
}
"""The decision about a unit whose weights, and whose cache, wait on the host."""

WAITING = {decision: waits for waits, decision in DECISIONS.items()}
"""Whether the weights, and the cache, wait on the host under a decision."""
