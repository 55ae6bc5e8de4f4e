"""The protocol of MONeT's tables (Shah et al. 2021): ResNet-50 at shares of its plain peak.

There batch 184 goes from 15.06 GB to 10.01, 6.00 and 4.99 GB at +3.2, +9.3 and +12.0 %. Another
card has another speed, so shares of the plain run are compared and nothing absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.gpu_campaign.plans import best_plan, plan_named
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject

__all__ = ["PUBLISHED_OVERHEADS", "protocol"]

PUBLISHED_OVERHEADS: Mapping[float, float] = {1 / 3: 0.120, 0.398: 0.093, 0.665: 0.032}
"""By share of the plain peak."""

_SECTION = "protocol"
_SEARCH_S = {"cuda": 8.0, "cpu": 1.0}


def protocol(subject: Subject) -> Items:
    """Run the plain step, then the best plans at every share, with and without offloading."""
    yield Item("plain", partial(_plain, subject))
    for share in PUBLISHED_OVERHEADS:
        for offloads in (True, False):
            label = f"{share:.3f} {'all levers' if offloads else 'recompute only'}"
            yield Item(label, partial(_planned, subject, label, share, offloads), least_s=12.0)


def _plain(subject: Subject) -> Mapping[str, Any]:
    return subject.run_schedule(_SECTION, "plain", plan_named(subject, "keep_all"))


def _planned(subject: Subject, label: str, share: float, offloads: bool) -> Mapping[str, Any]:
    record = subject.known.get((_SECTION, "plain"))
    if record is None or record.status != "ok":
        raise NotAsked("the plain step has no figures")
    plain = record.figures
    # What libraries keep is part of both peaks and no plan can change it.
    budget_bytes = int(share * plain["peak_allocated_bytes"]) - plain["library_bytes"]
    problem = subject.within(budget_bytes)
    if not offloads:
        hardware = problem.hardware
        unlinked = replace(hardware, host=replace(hardware.host, pool="none"))
        problem = replace(problem, hardware=unlinked)
    schedule = best_plan(problem, _SEARCH_S[subject.device.type])
    figures = subject.run_schedule(_SECTION, label, schedule)
    return figures | {
        "asked_share": share,
        "measured_share": figures["peak_allocated_bytes"] / plain["peak_allocated_bytes"],
        "overhead": figures["step_time_s"] / plain["step_time_s"] - 1,
        "predicted_overhead": figures["predicted_step_time_s"] / plain["predicted_step_time_s"] - 1,
        "published_overhead": PUBLISHED_OVERHEADS[share],
    }
