"""Where the weights and the cache of every unit could wait between passes of inference."""

from __future__ import annotations

from remora.api.alternatives import Planned
from remora.graph.model_graph import Unit
from remora.report.unit_choice import Alternative, UnitChoice
from remora.schedule.host_copies import copy_s
from remora.schedule.inference import NO_CACHE
from remora.schedule.parameters import StaticStorages

__all__ = ["pass_choices"]


def pass_choices(planned: Planned) -> tuple[UnitChoice, ...]:
    """Price both places of every unit: the device, or the host with a copy for every use.

    Args:
        planned: a plan of inference; seconds are those of one micro-batch.
    """
    problem = planned.problem.variant_of(planned.schedule)
    granularity = problem.cost.allocation_granularity_bytes
    statics = StaticStorages(problem.graph, granularity)
    return tuple(_choice(planned, statics, unit) for unit in problem.graph.units)


def _choice(planned: Planned, statics: StaticStorages, unit: Unit) -> UnitChoice:
    state, problem = planned.schedule.state, planned.problem
    streamed, cached = unit.index in state.streamed_units, unit.index in state.host_caches
    spec = problem.inference
    count = planned.schedule.pipeline.micro_batches
    own = NO_CACHE if spec is None else spec.cache_of(unit.index, count)
    cache, moved = own.held * count, (own.loaded, own.stored)
    weights = sum(entry.num_bytes for entry in statics.weights_of([unit.index]))
    words = "weights and cache" if cache and weights else "cache" if cache else "weights"
    whole = (weights + moved[0], moved[1])
    places = [_alternative(f"{words} on the device", "keep", weights + cache, (0, 0), planned)]
    if weights + cache:
        places.append(_alternative(f"{words} on the host", "offload", 0, whole, planned))
    if cache and weights:
        places.append(_alternative("weights on the host", "mixed", cache, (weights, 0), planned))
        places.append(_alternative("cache on the host", "mixed", weights, moved, planned))
    taken = _taken_name(words, weights > 0, cache > 0, streamed, cached)
    alternatives = tuple(
        Alternative(
            a.name, a.family, a.time_s, a.held_bytes, a.moved_bytes, a.copy_s, a.name == taken
        )
        for a in places
    )
    return UnitChoice(unit.index, unit.name, taken, (), alternatives)


def _taken_name(words: str, weights: bool, cache: bool, streamed: bool, cached: bool) -> str:
    streamed, cached = streamed and weights, cached and cache
    if weights and cache and streamed != cached:
        return "weights on the host" if streamed else "cache on the host"
    return f"{words} on the {'host' if streamed or cached else 'device'}"


def _alternative(
    name: str, family: str, held_bytes: int, moved: tuple[int, int], planned: Planned
) -> Alternative:
    """Price a place from which, and to which, a pass moves so many bytes."""
    loaded, stored = moved
    cost = planned.problem.cost
    seconds = copy_s(loaded, cost.h2d_bytes_per_s) + copy_s(stored, cost.d2h_bytes_per_s)
    return Alternative(name, family, 0.0, held_bytes, loaded + stored, seconds)
