"""What an environment says about a finished plan."""

from __future__ import annotations

from typing import Any

from remora.envs.batch import EpisodeBatch

__all__ = ["final_info"]


def final_info(batch: EpisodeBatch, place: int) -> dict[str, Any]:
    """Figures of the plan that an episode has just finished, and the plan.

    Args:
        batch: the episodes.
        place: which one.
    """
    problem = batch.problem(place)
    step_time_s = batch.step_time_s(place)
    return {
        "step_time_s": step_time_s,
        "budget_bytes": batch.budget_bytes(place),
        "overhead": step_time_s / problem.keep_all_s - 1.0,
        "schedule": batch.schedule(place),
    }
