"""Actions that are allowed, and what is told about where they lead; compiled."""

from __future__ import annotations

from remora.envs.actions import NUM_ACTIONS
from remora.envs.arrays import FALLBACK, FIRST_ROW, Episodes, Tables
from remora.envs.columns import SCALE_BYTES, SCALE_S
from remora.envs.jit import kernel

__all__ = ["choose_fallback", "forbid_all", "offer"]


@kernel
def forbid_all(episodes: Episodes, e: int) -> None:
    """Begin with nothing allowed."""
    for action in range(NUM_ACTIONS):
        episodes.mask[e, action] = False
        for column in range(episodes.choices.shape[2]):
            episodes.choices[e, action, column] = 0.0


@kernel
def offer(
    tables: Tables,
    episodes: Episodes,
    e: int,
    action: int,
    headroom: int,
    compute_s: float,
    copies_s: float,
    value: float,
    outlook_s: float,
) -> None:
    """Allow an action whose completion leaves ``headroom`` bytes, unless that is negative."""
    if headroom < 0:
        return
    scale = tables.reals[episodes.ints[e, FIRST_ROW]]
    choice = episodes.choices[e, action]
    episodes.mask[e, action] = True
    episodes.spare[action] = headroom
    choice[0] = 1.0
    choice[1] = min(10.0, headroom / scale[SCALE_BYTES])
    choice[2] = max(-10.0, min(10.0, 10 * compute_s / scale[SCALE_S]))
    choice[3] = min(10.0, 10 * copies_s / scale[SCALE_S])
    choice[4] = max(-10.0, min(10.0, value))
    choice[5] = outlook_s


@kernel
def choose_fallback(episodes: Episodes, e: int) -> None:
    """The allowed action that leaves most bytes, the first of several; -1 without any."""
    best = -1
    for action in range(NUM_ACTIONS):
        if episodes.mask[e, action] and (best < 0 or episodes.spare[action] > episodes.spare[best]):
            best = action
    episodes.ints[e, FALLBACK] = best
