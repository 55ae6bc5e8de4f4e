from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.agents.evaluation import score_of
from remora.agents.heuristics.dtr import Dtr, EvictionChain, evict, eviction_chain
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, covered_units
from remora.errors import InvalidInputError
from remora.schedule.schedule import Action
from remora.simulator.bounds import lower_bound_s
from tests.agents.budgets import at_range, uneven_problem, with_fixed_unit
from tests.problems import cpu_hardware, problem_of, toy_graph, zoo_graph

LONG_S = 120.0


def chain_of(
    saved: list[int], border: int = 0, forward_s: float = 1.0, around: int = 5
) -> EvictionChain:
    """Levels grow by what every unit saves; a backward takes ``around`` bytes beside that."""
    levels = list(itertools.accumulate(saved))
    return EvictionChain(
        forward_s=[forward_s] * len(saved),
        backward_s=[2 * forward_s] * len(saved),
        saved_bytes=saved,
        border_bytes=[border] * len(saved),
        forward_bytes=levels,
        backward_bytes=[level + around for level in levels],
    )


def test_nothing_goes_below_the_limit() -> None:
    assert evict(chain_of([10] * 4), 45) == ()


def test_of_equal_units_the_one_that_was_used_first_goes_first() -> None:
    assert evict(chain_of([10] * 4), 35) == (Span(0, 1),)


def test_neighbours_that_go_run_again_together() -> None:
    # In forward 2 only unit 0 is stale; in forward 3 unit 1 is, although it drags unit 0 along.
    assert evict(chain_of([10] * 4), 25) == (Span(0, 2),)


def test_what_an_evicted_neighbour_costs_counts() -> None:
    # In forward 4 units 1 and 2 are 2 s and 1 s old: alone, 1 would be cheaper per byte.
    chain = chain_of([10, 10, 12, 10, 10], around=0)
    assert evict(chain, 32) == (Span(2, 3), Span(0, 1))


def test_borders_between_evicted_units_are_freed_too() -> None:
    # Without a border unit 2 has to go as well. Run again, all is too much: some goes once more.
    assert evict(chain_of([10] * 4, border=10), 15) == (Span(0, 2), Span(0, 1))
    assert evict(chain_of([10] * 4), 15) == (Span(0, 3), Span(0, 2), Span(0, 1))


def test_large_sets_go_before_older_small_ones() -> None:
    assert evict(chain_of([10, 100, 10, 10], around=0), 125) == (Span(1, 2),)


def levels(
    saved: list[int], border: int, forward: dict[int, int], backward: dict[int, int]
) -> EvictionChain:
    """Seconds of :func:`chain_of`, levels typed in; 0 where none is."""
    units = range(len(saved))
    return dataclasses.replace(
        chain_of(saved, border),
        forward_bytes=[forward.get(unit, 0) for unit in units],
        backward_bytes=[backward.get(unit, 0) for unit in units],
    )


def test_a_later_neighbour_counts_as_much() -> None:
    # Unit 2 goes first. Beside it unit 1 costs 2 s for 20 bytes 3 s old, unit 0 1 s for 10, 4 s.
    chain = levels([10, 20, 100, 10, 10, 10], 0, forward={4: 150, 5: 205}, backward={})
    assert evict(chain, 100) == (Span(2, 3), Span(0, 1))


def test_a_border_freed_on_the_way_counts_at_once() -> None:
    chain = levels([10] * 4, 10, forward={3: 45}, backward={})
    assert evict(chain, 15) == (Span(0, 2),)
    chain = levels([0, 10, 100, 10, 10], 10, forward={4: 220}, backward={})
    assert evict(chain, 100) == (Span(1, 3),)


def test_what_goes_again_stays_apart_from_what_goes_for_the_first_time() -> None:
    chain = levels([0, 1, 100, 100, 100, 5], 0, forward={5: 350}, backward={3: 251})
    assert evict(chain, 150) == (Span(2, 4), Span(2, 3), Span(1, 2))


def test_what_cannot_run_again_stays() -> None:
    chain = dataclasses.replace(chain_of([10] * 4), saved_bytes=[0, 10, 0, 10])
    assert covered_units(evict(chain, 0)) == {1}


CHAINS = st.integers(2, 9).flatmap(
    lambda count: st.builds(
        EvictionChain,
        *(
            st.lists(numbers, min_size=count, max_size=count)
            for numbers in (
                st.floats(0.1, 10.0),
                st.floats(0.1, 10.0),
                st.integers(0, 50),
                st.integers(0, 20),
                st.integers(0, 300),
                st.integers(0, 300),
            )
        ),
    )
)


@given(CHAINS, st.integers(0, 300))
def test_ranges_nest_and_hold_only_what_can_go(chain: EvictionChain, limit: int) -> None:
    spans = evict(chain, limit)
    for one, other in itertools.combinations(spans, 2):
        assert not one.crosses(other)
        assert (one.start, one.end) != (other.start, other.end)
    assert all(chain.saved_bytes[unit] for unit in covered_units(spans))
    assert len(chain.saved_bytes) - 1 not in covered_units(spans)


@functools.cache
def unet_tables() -> tuple[Space, EvictionChain]:
    space = Space(problem_of(zoo_graph("unet_tiny")))
    return space, eviction_chain(space)


@settings(max_examples=25)
@given(st.floats(0.0, 1.0))
def test_every_limit_gives_a_valid_schedule(share: float) -> None:
    space, chain = unet_tables()
    most = max(*chain.forward_bytes, *chain.backward_bytes)
    spans = evict(chain, share * most)
    score = score_of(space.problem, space.build(space.keep_all.memory.options, spans))
    assert score.step_time_s >= score_of(space.problem, space.keep_all).step_time_s - 1e-12


@pytest.mark.parametrize("name", ["unet_tiny", "uneven"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 1.0])
def test_plans_fit_and_are_no_faster_than_possible(name: str, share: float) -> None:
    if name == "uneven":
        problem = uneven_problem(share, host_pool="none")
    else:
        problem = at_range(problem_of(zoo_graph(name), hardware=cpu_hardware("none")), share)
    schedule = Dtr().propose(problem, LONG_S)
    score = score_of(problem, schedule)
    assert score.feasible
    assert score.step_time_s >= lower_bound_s(problem)
    if share == 1.0:
        assert schedule == Space(problem).keep_all


def test_evicted_units_are_recomputed_not_moved() -> None:
    problem = at_range(problem_of(toy_graph((64,) * 10, batch=64)), 0.5)
    schedule = Dtr().propose(problem, LONG_S)
    actions = {action for option in schedule.memory.options for action in option.distinct}
    assert schedule.memory.groups or Action.RECOMPUTE in actions
    assert actions <= {Action.KEEP, Action.RECOMPUTE}


def test_below_all_recomputation_the_least_memory_is_found() -> None:
    problem = at_range(problem_of(zoo_graph("unet_tiny")), 0.0)
    leaner = dataclasses.replace(problem, budget_bytes=problem.budget_bytes - 1)
    schedule = Dtr().propose(leaner, LONG_S)
    assert score_of(leaner, schedule).feasible


def test_fixed_units_are_never_evicted() -> None:
    graph = with_fixed_unit(toy_graph((64,) * 10, batch=64), 4)
    problem = at_range(problem_of(graph, hardware=cpu_hardware("none")), 0.2)
    chain = eviction_chain(Space(problem))
    assert 4 not in covered_units(evict(chain, 0))


def test_several_ranks_are_refused() -> None:
    problem = dataclasses.replace(problem_of(toy_graph()), world_size=2)
    with pytest.raises(InvalidInputError, match="world_size is 2 and scheduler 'dtr'"):
        Dtr().propose(problem, LONG_S)
