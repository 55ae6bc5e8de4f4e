"""What an observation of a pass tells about budget, progress and what was decided."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from remora.envs.actions import PACES, Phase
from remora.envs.arrays import BOUND, BUDGET, KIND, PHASE, STATE_COLUMNS, Episodes
from remora.envs.passes.standing import Standing, standing_of
from remora.envs.pipeline_links import link_rates
from remora.envs.telling import FEATURE_LIMIT
from remora.schedule.layout import host_link_rates

if TYPE_CHECKING:
    from remora.envs.passes.tables import PassTables

__all__ = ["tell_pass"]


def tell_pass(problem: PassTables, episodes: Episodes, place: int, room: int) -> None:
    """Fill the columns ``STATE_COLUMNS`` of an episode; those that say nothing in a pass are 0.

    Args:
        problem: of the episode.
        episodes: to change.
        place: of the episode.
        room: bytes that the plan of least memory leaves.
    """
    ints, phase = episodes.ints[place], Phase(int(episodes.ints[place, PHASE]))
    told = _given(problem, int(ints[BUDGET]))
    if phase < Phase.DONE:
        told[f"phase_{phase.name.lower()}"] = 1.0
        told["room"] = room / problem.span_bytes
    bound_s = float(episodes.reals[place, BOUND])
    told["bound"] = math.log(bound_s / problem.keep_all_s)
    if phase >= Phase.UNITS:
        at = standing_of(problem, episodes, place)
        told |= _progress(problem, episodes, place, at)
        told[f"kind_{int(ints[KIND])}"] = float(at.ranks > 1)
    state = episodes.state[place]
    state[:] = [told.get(name, 0.0) for name in STATE_COLUMNS]
    state.clip(-FEATURE_LIMIT, FEATURE_LIMIT, out=state)


def _progress(
    problem: PassTables, episodes: Episodes, place: int, at: Standing
) -> dict[str, float]:
    costs, times = problem.counts[at.count], problem.micro_batches[at.count]
    scale = times / problem.keep_all_s
    forward_s, store_s, load_s = episodes.stage_s[place, : at.stage + 1].max(axis=0).tolist()
    left_s = float(costs.forward_s[at.cursor :].sum())
    present_s = float(episodes.stage_s[place, min(at.stage, at.ranks - 1), 0])
    stages_left = at.ranks - at.stage
    equal_s = (present_s + left_s) / max(stages_left, 1)
    window, distance = PACES[at.pace]
    return {
        "held": costs.kept_bytes(0, at.decisions) / problem.span_bytes,
        "rest": float(costs.movable_bytes[at.cursor :].sum()) / problem.span_bytes,
        "compute": forward_s * scale,
        "store": store_s * scale,
        "load": load_s * scale,
        "progress": at.cursor / problem.num_units,
        "micro_batches": math.log2(times) / 5,
        "window": window / 8,
        "distance": distance / 4,
        "ranks": math.log2(at.ranks) / 5,
        "stage": at.stage / at.ranks,
        "stages_left": stages_left / 16,
        "stage_share": present_s / equal_s if equal_s else 0.0,
    }


def _given(problem: PassTables, budget_bytes: int) -> dict[str, float]:
    """What no action changes."""
    span, seconds = problem.span_bytes, problem.keep_all_s
    rates = host_link_rates(problem.problem, problem.problem.chain)
    per_span = seconds / span
    share = (budget_bytes - problem.floor_bytes) / span
    return {
        "budget": share,
        "given_budget": share,
        "given_room": (budget_bytes - problem.least_bytes) / span,
        "given_store_rate": float(np.log10(1e-6 + rates.d2h_bytes_per_s * per_span)),
        "given_load_rate": float(np.log10(1e-6 + rates.h2d_bytes_per_s * per_span)),
        "given_world": math.log2(problem.problem.world_size) / 5,
        "given_link_rate": float(np.log10(1e-6 + link_rates(problem.problem)[0] * per_span)),
    }
