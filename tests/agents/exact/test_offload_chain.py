"""Recomputation and host copies on a chain against every plan of the class, and against rotor."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.agents.exact.chains.offload_chain import OffloadChain, StageOption
from remora.agents.exact.chains.offload_table import (
    Block,
    OffloadSolution,
    build_offload_table,
    solve_offload_chain,
)
from remora.agents.exact.chains.rotor import Chain, Segment, build_table, solve_chain
from remora.errors import InvalidInputError
from tests.agents.exact.offload_replay import INFINITE, cheapest, replay

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "rotor_chains.json").read_text())
FIELDS = tuple(field.name for field in dataclasses.fields(Chain))

OPTION = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 6))


@st.composite
def problems(draw: Any, stages: tuple[int, int] = (2, 4), overlaps: bool | None = None) -> Any:
    length = draw(st.integers(*stages))

    def numbers(count: int, least: int, most: int) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=count, max_size=count))

    bounds = numbers(length + 1, 0, 3)
    inner = numbers(length, 0, 6)
    # One size of 1 makes the common unit of all sizes 1, which is the slot of the checker.
    bounds[length] = 1
    return OffloadChain(
        Chain(
            forward_time=numbers(length, 0, 6),
            backward_time=numbers(length, 0, 9),
            boundary_size=bounds,
            saved_size=[own + bound for own, bound in zip(inner, bounds[1:], strict=True)],
            forward_workspace=numbers(length, 0, 2),
            backward_workspace=numbers(length, 0, 2),
        ),
        options=[
            [StageOption(*option) for option in draw(st.lists(OPTION, max_size=2))]
            for _ in range(length)
        ],
        moved_input=numbers(length, 0, 3),
        out_time=draw(st.sampled_from([0.5, 1.0, 1.5, 4.0])),
        in_time=draw(st.sampled_from([0.5, 1.0, 2.5])),
        overlaps=draw(st.booleans()) if overlaps is None else overlaps,
        first_time=draw(st.just(()) | st.just(numbers(length, 1, 6))),
    )


def without_moves(chain: Chain) -> OffloadChain:
    return OffloadChain(chain, [[]] * chain.num_stages, [0.0] * chain.num_stages, 1.0, 1.0)


def everything_moves(chain: Chain, part_time: float = 1.0) -> OffloadChain:
    """All that a block holds can go, at no other cost."""
    bounds = chain.boundary_size
    inputs = [0.0, *bounds[1:-1]]
    options = [
        [StageOption(0.0, 0.0, inputs[i] + chain.saved_size[i] - bounds[i + 1])]
        for i in range(chain.num_stages)
    ]
    return OffloadChain(chain, options, inputs, part_time, part_time)


def makespan(solution: OffloadSolution) -> float:
    return INFINITE if solution.makespan is None else solution.makespan


def check(problem: OffloadChain, budget: float, solution: OffloadSolution, part: float) -> None:
    """A plan keeps to the budget, and takes no longer than it says."""
    assert solution.makespan is not None
    time, peak = replay(problem, solution.blocks, part)
    assert time <= solution.makespan * (1 + 1e-9)
    assert peak <= budget


@given(problems(stages=(2, 3)), st.integers(0, 9), st.sampled_from([1, 2]))
def test_no_plan_of_the_class_is_faster(
    problem: OffloadChain, above: int, parts_per_slot: int
) -> None:
    smallest = build_table(problem.chain, 1000).smallest_budget()
    assert smallest is not None
    budget = max(0.0, smallest + above - 4)
    table = build_offload_table(problem, budget, parts_per_slot=parts_per_slot)
    solution = table.solve(budget)
    assert makespan(solution) == pytest.approx(cheapest(problem, budget, 1 / parts_per_slot))
    if solution.makespan is not None:
        assert table.part_size == 1 / parts_per_slot
        check(problem, budget, solution, table.part_size)


def crowded_problem(seed: int, stages: int) -> OffloadChain:
    """Sets that take several forwards to leave, so that waits and parts on their way matter."""
    pick = random.Random(seed).randint
    bounds = [pick(1, 2) for _ in range(stages)] + [1]
    saved = [bounds[i + 1] + pick(1, 5) for i in range(stages)]
    sizes = [(bounds[i] if i else 0) + saved[i] - bounds[i + 1] for i in range(stages)]
    return OffloadChain(
        Chain(
            forward_time=[pick(1, 6) for _ in range(stages)],
            backward_time=[pick(1, 9) for _ in range(stages)],
            boundary_size=bounds,
            saved_size=saved,
            forward_workspace=[0] * stages,
            backward_workspace=[pick(0, 1) for _ in range(stages)],
        ),
        options=[[StageOption(0, 0, size), StageOption(1, size // 2, 0)] for size in sizes],
        moved_input=bounds[:-1],
        out_time=pick(1, 8) / 4,
        in_time=pick(1, 8) / 4,
    )


def check_all_budgets(problem: OffloadChain, parts_per_slot: int, most: int | None = None) -> None:
    """One table against the search at every budget at which anything changes."""
    largest = problem.chain.boundary_size[0] + sum(problem.chain.saved_size) + 6
    table = build_offload_table(problem, largest, None, parts_per_slot, most)
    assert table.part_size == 1 / parts_per_slot
    for budget in range(4, int(largest)):
        solution = table.solve(budget)
        most_parts = None if most is None else most * parts_per_slot
        expected = cheapest(problem, budget, table.part_size, most_parts)
        assert makespan(solution) == pytest.approx(expected)
        if solution.makespan is not None:
            check(problem, budget, solution, table.part_size)


@pytest.mark.parametrize(
    ("seed", "stages"), [*((seed, 3 + seed % 2) for seed in range(24)), (57, 5)]
)
def test_no_plan_of_the_class_is_faster_where_copies_wait(seed: int, stages: int) -> None:
    most_slots = 4 if seed % 5 == 0 else None
    check_all_budgets(crowded_problem(seed, stages), 1 + seed % 3, most_slots)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 70))
def test_no_plan_of_the_class_is_faster_on_five_stages(seed: int) -> None:
    check_all_budgets(crowded_problem(seed, 5), 1 + seed % 2, 6 if seed % 5 == 0 else None)


@pytest.mark.parametrize("record", GOLDEN, ids=lambda record: record["name"])
def test_without_moves_the_golden_optima_of_rotor_come_out(record: dict[str, Any]) -> None:
    problem = without_moves(Chain(**{name: record[name] for name in FIELDS}))
    table = build_offload_table(problem, max(o["budget"] for o in record["optima"]))
    for optimum in record["optima"]:
        found = table.solve(optimum["budget"])
        assert found.makespan == (
            None if optimum["makespan"] is None else pytest.approx(optimum["makespan"], abs=1e-6)
        )


@given(problems(stages=(1, 9)), st.integers(0, 60), st.sampled_from([None, 7, 40]))
def test_without_moves_it_is_rotor(problem: OffloadChain, budget: int, slots: int | None) -> None:
    chain = problem.chain
    kept = solve_chain(chain, budget, slots)
    found = solve_offload_chain(without_moves(chain), budget, slots)
    assert found.makespan == (None if kept.makespan is None else pytest.approx(kept.makespan))
    if found.makespan is not None:
        check(without_moves(chain), budget, found, 1.0)


@given(problems(stages=(2, 8)), st.integers(0, 40))
def test_more_memory_is_never_slower(problem: OffloadChain, budget: int) -> None:
    small, large = (solve_offload_chain(problem, size) for size in (budget, budget + 1))
    assert makespan(large) <= makespan(small) * (1 + 1e-9)


@given(problems(stages=(2, 8)), st.integers(0, 40), st.floats(0.1, 1.0), st.floats(0.1, 1.0))
def test_more_bandwidth_is_never_slower(
    problem: OffloadChain, budget: int, out_share: float, in_share: float
) -> None:
    faster = dataclasses.replace(
        problem, out_time=problem.out_time * out_share, in_time=problem.in_time * in_share
    )
    slow, fast = (solve_offload_chain(p, budget) for p in (problem, faster))
    assert makespan(fast) <= makespan(slow) * (1 + 1e-9)


@given(problems(stages=(2, 8)), st.integers(0, 40))
def test_moves_are_never_slower_than_rotor(problem: OffloadChain, budget: int) -> None:
    kept = solve_chain(problem.chain, budget).makespan
    found = makespan(solve_offload_chain(dataclasses.replace(problem, first_time=()), budget))
    assert found <= (INFINITE if kept is None else kept * (1 + 1e-9))


@given(problems(stages=(2, 8)), st.integers(3, 50), st.floats(0.2, 1.1), st.integers(1, 3))
def test_rounded_sizes_never_overrun_the_budget(
    problem: OffloadChain, slots: int, share: float, parts_per_slot: int
) -> None:
    chain = problem.chain
    budget = share * (chain.boundary_size[0] + sum(chain.saved_size))
    table = build_offload_table(problem, budget, slots, parts_per_slot)
    for part in (0.5, 0.8, 1.0):
        solution = table.solve(part * budget)
        if solution.makespan is not None:
            # In whole slots, the checker's parts on their way are at most these.
            check(problem, part * budget, solution, table.part_size)


@given(problems(stages=(2, 6), overlaps=True), st.integers(0, 30))
def test_a_limit_of_parts_on_their_way_is_kept(problem: OffloadChain, budget: int) -> None:
    solution = build_offload_table(problem, budget, most_slots=3).solve(budget)
    if solution.makespan is not None:
        check(problem, budget, solution, 1.0)
        assert makespan(solve_offload_chain(problem, budget)) <= solution.makespan * (1 + 1e-9)


def even_chain(stages: int = 6) -> Chain:
    return Chain(
        forward_time=[10.0] * stages,
        backward_time=[20.0] * stages,
        boundary_size=[1.0] * (stages + 1),
        saved_size=[11.0] * stages,
        forward_workspace=[0.0] * stages,
        backward_workspace=[0.0] * stages,
    )


def test_copies_that_hide_cost_nothing() -> None:
    """Each set of 11 leaves beside the next stage: two sets, their gradients and inputs remain."""
    solution = solve_offload_chain(everything_moves(even_chain(), part_time=0.9), 36)
    assert solution.makespan == 6 * 30
    assert sum(block.way > 0 for block in solution.blocks) >= 3
    assert all(not block.waited for block in solution.blocks)
    slow = solve_offload_chain(everything_moves(even_chain(), part_time=9.0), 36)
    assert slow.makespan is not None
    assert slow.makespan > 6 * 30


def test_a_checkpoint_can_be_moved() -> None:
    """At the least memory of recomputation alone, room for one more input saves a rerun."""
    chain = even_chain(12)
    inputs = dataclasses.replace(everything_moves(chain), options=[[]] * 12)
    smallest = build_table(chain, 1000).smallest_budget()
    assert smallest is not None
    solution = solve_offload_chain(inputs, smallest)
    kept = solve_chain(chain, smallest).makespan
    assert kept is not None
    assert makespan(solution) < kept
    assert any(isinstance(block.group, Segment) for block in solution.blocks if block.way)
    check(inputs, smallest, solution, 1.0)


def test_without_overlap_a_move_costs_its_whole_time() -> None:
    alone = dataclasses.replace(everything_moves(even_chain(2), 0.25), overlaps=False)
    # Everything needs 1 + 11 + 11 and two gradients; without the first set, 10 less.
    solution = solve_offload_chain(alone, 24)
    assert solution.blocks == (Block(0, way=1), Block(1))
    assert solution.makespan == 60 + 10 * 0.5


def test_an_option_trades_time_for_memory() -> None:
    """One unit of time per set is cheaper than 10 of running a stage again."""
    again = dataclasses.replace(
        without_moves(even_chain()), options=[[StageOption(1.0, 5.0, 0.0)]] * 6
    )
    # Two kept sets less make room; each option holds its input and 4 of 11.
    least = 1 + 6 * 11 + 2
    solution = solve_offload_chain(again, least - 10)
    assert solution.makespan == 6 * 30 + 2
    assert [block.way for block in solution.blocks].count(1) == 2
    check(again, least - 10, solution, 1.0)


def test_everything_is_kept_where_it_fits() -> None:
    chain = even_chain()
    solution = solve_offload_chain(everything_moves(chain), 1e6)
    assert solution == OffloadSolution(6 * 30.0, tuple(Block(i) for i in range(6)))


def test_nothing_fits_below_the_input() -> None:
    assert solve_offload_chain(everything_moves(even_chain()), 0) == OffloadSolution(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": [[]]}, "options has 1 values; a chain of 6 stages needs 6"),
        ({"options": [[]] * 5 + [[StageOption(0, 0, -1)]]}, r"options\[5\]\[0\].moved_size is -1"),
        ({"moved_input": [-1.0] * 6}, r"moved_input\[0\] is -1.0; it must be a finite number"),
        ({"out_time": 0.0}, "out_time is 0.0; it must be a finite number above 0"),
        ({"in_time": float("inf")}, "in_time is inf"),
    ],
)
def test_bad_problems_name_field_and_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(everything_moves(even_chain()), **change)


@pytest.mark.parametrize("name", ["parts_per_slot", "most_slots"])
def test_bad_arguments_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} is 0; it must be 1 or larger"):
        build_offload_table(everything_moves(even_chain()), 10, **{name: 0})


def test_a_table_too_large_to_hold_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"60 stages, .* parts on their way and 600 slots"):
        build_offload_table(everything_moves(even_chain(60), 100.0), 600, 600, parts_per_slot=8)
