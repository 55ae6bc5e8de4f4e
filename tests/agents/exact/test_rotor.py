"""The rotor dynamic program against golden optima, an independent replay and exhaustive search."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.agents.exact.chains.rotor import (
    Chain,
    ChainSolution,
    Instruction,
    Kind,
    Segment,
    build_table,
    solve_chain,
)
from remora.errors import InvalidInputError, RemoraError
from tests.agents.exact.chain_replay import RuleBrokenError, cheapest, replay

FIELDS = (
    "forward_time",
    "backward_time",
    "boundary_size",
    "saved_size",
    "forward_workspace",
    "backward_workspace",
)
GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "rotor_chains.json").read_text())
CONSTANT = {
    "forward_time": [1, 1, 1],
    "backward_time": [2, 2, 2],
    "boundary_size": [1, 1, 1, 1],
    "saved_size": [3, 3, 3],
    "forward_workspace": [0, 0, 0],
    "backward_workspace": [0, 0, 0],
}


def problem(record):
    return {name: record[name] for name in FIELDS}


def operations(solution: ChainSolution):
    return [(instruction.kind.value, instruction.stage) for instruction in solution.instructions]


def check_plan(sizes, budget: float, solution: ChainSolution) -> None:
    makespan, peak = replay(sizes, operations(solution))
    assert solution.makespan == pytest.approx(makespan, abs=1e-9)
    # Sums of sizes in another order differ in the last digit.
    assert peak <= budget * (1 + 1e-12)


@st.composite
def small_problems(draw, max_stages=4):
    stages = draw(st.integers(1, max_stages))

    def numbers(length, largest):
        return draw(st.lists(st.integers(0, largest), min_size=length, max_size=length))

    return {
        "forward_time": numbers(stages, 6),
        "backward_time": numbers(stages, 6),
        "boundary_size": numbers(stages + 1, 4),
        "saved_size": numbers(stages, 8),
        "forward_workspace": numbers(stages, 2),
        "backward_workspace": numbers(stages, 2),
    }


@st.composite
def real_problems(draw):
    stages = draw(st.integers(2, 9))

    def numbers(length, smallest, largest):
        value = st.floats(smallest, largest, allow_nan=False)
        return draw(st.lists(value, min_size=length, max_size=length))

    return {
        "forward_time": numbers(stages, 0.1, 3.0),
        "backward_time": numbers(stages, 0.1, 6.0),
        "boundary_size": numbers(stages + 1, 0.1, 2.0),
        "saved_size": numbers(stages, 1.0, 9.0),
        "forward_workspace": numbers(stages, 0.0, 1.0),
        "backward_workspace": numbers(stages, 0.0, 1.0),
    }


@pytest.mark.parametrize("record", GOLDEN, ids=lambda record: record["name"])
def test_golden_optima_are_reproduced_and_replay_within_the_budget(record):
    sizes = problem(record)
    for optimum in record["optima"]:
        solution = solve_chain(Chain(**sizes), optimum["budget"])
        if optimum["makespan"] is None:
            assert solution == ChainSolution(None, ())
        else:
            assert solution.makespan == pytest.approx(optimum["makespan"], abs=1e-6)
            assert solution.exact
            check_plan(sizes, optimum["budget"], solution)


@pytest.mark.parametrize("record", GOLDEN[::6], ids=lambda record: record["name"])
def test_one_table_answers_every_smaller_budget(record):
    chain = Chain(**problem(record))
    largest = max(optimum["budget"] for optimum in record["optima"])
    table = build_table(chain, largest)
    for optimum in record["optima"]:
        assert table.solve(optimum["budget"]) == solve_chain(chain, optimum["budget"])
    assert table.solve(10 * largest).makespan == pytest.approx(record["ideal_makespan"])


@given(small_problems(), st.integers(0, 12))
def test_no_legal_sequence_is_faster(sizes, above_smallest):
    chain = Chain(**sizes)
    budget = build_table(chain, 1000).smallest_budget() + above_smallest
    solution = solve_chain(chain, budget)
    assert solution.makespan == cheapest(sizes, budget)
    if solution.makespan is not None:
        check_plan(sizes, budget, solution)


@given(small_problems())
def test_smallest_budget_fits_and_one_less_does_not(sizes):
    chain = Chain(**sizes)
    smallest = build_table(chain, 1000).smallest_budget()
    assert cheapest(sizes, smallest) is not None
    assert solve_chain(chain, smallest).makespan is not None
    if smallest > 0:
        assert cheapest(sizes, smallest - 1) is None
        assert build_table(chain, smallest - 1).smallest_budget() is None


@given(small_problems(max_stages=8), st.integers(0, 60))
def test_a_larger_budget_is_never_slower(sizes, budget):
    chain = Chain(**sizes)
    small, large = (solve_chain(chain, size).makespan for size in (budget, budget + 1))
    if small is not None:
        assert large is not None
        assert large <= small


@given(real_problems(), st.integers(1, 80), st.floats(0.1, 1.1))
def test_rounded_sizes_never_overrun_the_budget(sizes, slots, share):
    budget = share * (sizes["boundary_size"][0] + sum(sizes["saved_size"]))
    table = build_table(Chain(**sizes), budget, slots=slots)
    previous = float("inf")
    for part in (0.6, 0.8, 1.0):
        solution = table.solve(part * budget)
        if solution.makespan is None:
            assert previous == float("inf")
        else:
            check_plan(sizes, part * budget, solution)
            assert solution.makespan <= previous + 1e-9
            previous = solution.makespan


@given(real_problems())
def test_smallest_budget_of_rounded_sizes_is_met(sizes):
    table = build_table(Chain(**sizes), 1000.0, slots=40)
    smallest = table.smallest_budget()
    check_plan(sizes, smallest, table.solve(smallest))


def test_more_slots_come_close_to_the_optimum():
    record = next(record for record in GOLDEN if record["name"] == "random-20-15")
    chain = Chain(**problem(record))
    optimum = record["optima"][4]
    rounded = solve_chain(chain, optimum["budget"], slots=500)
    assert not rounded.exact
    assert optimum["makespan"] <= rounded.makespan + 1e-9
    assert rounded.makespan <= 1.03 * optimum["makespan"]


def test_bytes_with_a_common_factor_are_solved_exactly():
    record = GOLDEN[2]
    scale = 3 * 2**20
    sizes = problem(record)
    for name in FIELDS[2:]:
        sizes[name] = [scale * size for size in sizes[name]]
    for optimum in record["optima"]:
        solution = solve_chain(Chain(**sizes), scale * optimum["budget"] + scale - 1)
        expected = solve_chain(Chain(**problem(record)), optimum["budget"])
        assert solution == expected


def test_sizes_without_a_common_unit_are_rounded_to_slots():
    sizes = CONSTANT | {"saved_size": [3.1, 3.000001, 2.9]}
    solution = solve_chain(Chain(**sizes), 8.5)
    assert not solution.exact
    check_plan(sizes, 8.5, solution)


def test_ample_memory_saves_every_stage():
    solution = solve_chain(Chain(**CONSTANT), 10**15)
    assert solution.groups == (0, 1, 2)
    assert solution.makespan == 9
    assert [instruction.kind for instruction in solution.instructions] == [
        *[Kind.FORWARD_SAVE] * 3,
        Kind.LOSS,
        *[Kind.BACKWARD] * 3,
    ]


def test_groups_and_instructions_of_a_case_worked_by_hand():
    """Budget 7: input 1, checkpoint 1, then saved 3 and two gradients in the last backward.

    A second checkpoint or a second saved set beside that backward would need 8 or more.
    """
    solution = solve_chain(Chain(**CONSTANT), 7)
    assert solution.groups == (Segment(0, 2, (Segment(0, 1, (0,)), 1)), 2)
    assert solution.makespan == 12
    assert solution.instructions == tuple(
        Instruction(kind, stage)
        for kind, stage in [
            (Kind.FORWARD_CHECKPOINT, 0),
            (Kind.FORWARD_FORGET, 1),
            (Kind.FORWARD_SAVE, 2),
            (Kind.LOSS, 2),
            (Kind.BACKWARD, 2),
            (Kind.FORWARD_CHECKPOINT, 0),
            (Kind.FORWARD_SAVE, 1),
            (Kind.BACKWARD, 1),
            (Kind.FORWARD_SAVE, 0),
            (Kind.BACKWARD, 0),
        ]
    )


def test_a_forward_that_forgets_still_holds_its_own_input():
    """Here the forgetting forward itself sets the peak, which random chains rarely show."""
    sizes = {
        "forward_time": [2, 5, 5, 2],
        "backward_time": [4, 6, 3, 5],
        "boundary_size": [3, 5, 3, 7, 2],
        "saved_size": [7, 6, 7, 3],
        "forward_workspace": [7, 7, 1, 2],
        "backward_workspace": [0, 0, 0, 0],
    }
    for budget, makespan in [(24, None), (25, 41), (26, 39)]:
        assert cheapest(sizes, budget) == makespan
        assert solve_chain(Chain(**sizes), budget).makespan == makespan


def test_nothing_fits_below_the_input_itself():
    assert solve_chain(Chain(**CONSTANT), 0) == ChainSolution(None, ())


def test_chain_takes_any_sequence_and_keeps_tuples():
    chain = Chain(**{name: tuple(values) for name, values in CONSTANT.items()})
    assert chain == Chain(**CONSTANT)
    assert chain.forward_time == (1.0, 1.0, 1.0)
    assert hash(chain) == hash(Chain(**CONSTANT))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forward_time": []}, "forward_time is empty"),
        ({"backward_time": [1]}, "backward_time has 1 values; a chain of 3 stages needs 3"),
        ({"boundary_size": [1, 1, 1]}, "boundary_size has 3 values; .* needs 4"),
        ({"saved_size": [3, -1, 3]}, r"saved_size\[1\] is -1.0; it must be a finite number"),
        ({"forward_workspace": [0, 0, float("nan")]}, r"forward_workspace\[2\] is nan"),
        ({"backward_workspace": [float("inf"), 0, 0]}, r"backward_workspace\[0\] is inf"),
    ],
)
def test_bad_chains_name_field_and_value(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        Chain(**(CONSTANT | change))
    assert isinstance(caught.value, RemoraError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf")])
def test_bad_budgets_are_refused(budget):
    with pytest.raises(InvalidInputError, match=r"budget is .*; it must be a finite number"):
        solve_chain(Chain(**CONSTANT), budget)


def test_bad_slots_and_budgets_beyond_the_table_are_refused():
    chain = Chain(**CONSTANT)
    with pytest.raises(InvalidInputError, match="slots is 0; it must be 1 or larger"):
        solve_chain(chain, 7, slots=0)
    with pytest.raises(InvalidInputError, match=r"budget is 8; this table answers .* up to 7"):
        build_table(chain, 7).solve(8)


def test_a_table_too_large_to_hold_is_refused():
    stages = 801
    chain = Chain(
        forward_time=[1] * stages,
        backward_time=[1] * stages,
        boundary_size=[0] * (stages + 1),
        saved_size=[1] * stages,
        forward_workspace=[0] * stages,
        backward_workspace=[0] * stages,
    )
    with pytest.raises(InvalidInputError, match=r"801 stages .* allowed are 800 stages"):
        solve_chain(chain, 100)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ([("backward", 2)], "gradient of its output is missing"),
        ([("forward_save", 1)], "its input is not held"),
        ([("forward_save", 0), ("loss", 2)], "needs the last output"),
        (
            [
                ("forward_checkpoint", 0),
                ("forward_checkpoint", 1),
                ("forward_forget", 2),
                ("loss", 2),
                ("backward", 2),
            ],
            "its saved set is missing",
        ),
        ([("forward_save", 0), ("forward_save", 1)], "gradient of the first input is missing"),
    ],
)
def test_the_checker_refuses_illegal_plans(plan, reason):
    with pytest.raises(RuleBrokenError, match=reason):
        replay(CONSTANT, plan)


def test_the_checker_refuses_to_drop_a_checkpoint():
    plan = [("forward_checkpoint", 0), ("forward_save", 1), ("forward_forget", 1)]
    with pytest.raises(RuleBrokenError, match="would drop a checkpoint"):
        replay(CONSTANT, plan)
