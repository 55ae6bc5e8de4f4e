"""Menus: what every option costs, that none is useless, and that the usual good ones are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from remora.graph.model_graph import ModelGraph, Unit
from remora.schedule.menu import (
    MENU_SIZE,
    keep_option,
    offload_option,
    plain_menu,
    recompute_option,
    unit_menu,
)
from remora.schedule.problem import Problem
from remora.schedule.recompute import (
    compressed_bytes,
    is_recompute,
    rerun_of,
    storage_actions,
)
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption
from remora.schedule.validate import validate
from tests.problems import cpu_hardware, problem_of, table, toy_graph, zoo_graph
from tests.zoo.model_files import TINY


def problem(name: str, lossy: bool = False, compress_bytes_per_s: float = 1e9) -> Problem:
    graph = toy_graph() if name == "toy" else zoo_graph(name)
    costs = dataclasses.replace(table(graph), compress_bytes_per_s=compress_bytes_per_s)
    return dataclasses.replace(problem_of(graph, costs=costs), allow_lossy=lossy)


def mixed(problem: Problem) -> Iterator[tuple[Unit, UnitOption]]:
    for unit in problem.graph.units:
        for option in unit_menu(problem, unit)[len(plain_menu(problem, unit)) :]:
            yield unit, option


def figures(problem: Problem, unit: Unit, option: UnitOption) -> tuple[float, int, int]:
    """Seconds added, bytes left on the device and bytes moved, counted anew."""
    chain = problem.chain
    record = chain.units[unit.index]
    if is_recompute(option):
        return record.rerun_s + record.hooks_s, chain.input_bytes(unit.index), 0
    actions = storage_actions(chain, unit.index, option)
    held = [s for s, action in actions.items() if action is Action.KEEP]
    rerun = rerun_of(chain, unit.index, option)
    seconds = 0.0
    if rerun is not None:
        held += rerun.reads
        count = sum(action is Action.RECOMPUTE for _, action in option.actions)
        seconds = rerun.duration_s + count * chain.costs.saved_tensor_overhead_s
    packed = [s for s, action in actions.items() if action is Action.COMPRESS]
    seconds += 2e-9 * sum(chain.num_bytes(s) for s in packed)
    bytes_held = sum(map(chain.num_bytes, held)) + sum(compressed_bytes(chain, s) for s in packed)
    moved = sum(chain.num_bytes(s) for s, a in actions.items() if a is Action.OFFLOAD)
    return seconds, bytes_held, moved


def saved_by(graph: ModelGraph, unit: Unit, option: UnitOption, action: Action) -> set[str]:
    """Names of the operators that made what the option treats in this way."""
    storages = {
        graph.storage_of(saved)
        for saved, (_, chosen) in zip(unit.saved, option.actions, strict=True)
        if chosen is action and graph.storages[graph.storage_of(saved)].created >= 0
    }
    return {graph.ops[graph.storages[s].created].name.split(".")[1] for s in storages}


@pytest.mark.parametrize("name", ["toy", *TINY])
@pytest.mark.parametrize("lossy", [False, True])
def test_menus_begin_with_the_plain_options_and_are_short(name: str, lossy: bool) -> None:
    case = problem(name, lossy)
    for unit in case.graph.units:
        menu = unit_menu(case, unit)
        assert menu[0] == keep_option(unit)
        assert menu[: len(plain_menu(case, unit))] == plain_menu(case, unit)
        assert len(menu) == len(set(menu)) <= MENU_SIZE
        if len(menu) > 1:
            assert menu[1] == recompute_option(unit)


@pytest.mark.parametrize("name", ["toy", *TINY])
def test_no_mixed_option_is_beaten(name: str) -> None:
    case = problem(name, lossy=True)
    for unit, option in mixed(case):
        mine = figures(case, unit, option)
        for other in unit_menu(case, unit):
            theirs = figures(case, unit, other)
            better = all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine
            assert not better, f"{unit.name}: {other} beats {option}"


@pytest.mark.parametrize("name", ["gpt2_tiny", "resnet_tiny"])
def test_mixed_options_are_valid_and_of_every_kind(name: str) -> None:
    # At the usual rate running again is nearly always cheaper.
    case = problem(name, lossy=True, compress_bytes_per_s=1e12)
    kinds = set()
    for unit, option in mixed(case):
        options = [keep_option(u) for u in case.graph.units]
        options[unit.index] = option
        validate(case, Schedule(case.graph.content_hash, MemoryPlan(tuple(options))))
        kinds |= option.distinct
    assert kinds == set(Action)


def test_equal_units_have_equal_menus() -> None:
    case = problem("gpt2_tiny")
    again = problem("gpt2_tiny")
    by_kind: dict[str, set[tuple[tuple[Action, ...], ...]]] = {}
    for unit in case.graph.units:
        menu = unit_menu(case, unit)
        assert menu == unit_menu(again, unit)
        rows = tuple(tuple(action for _, action in option.actions) for option in menu)
        by_kind.setdefault(unit.kind, set()).add(rows)
    assert all(len(rows) == 1 for rows in by_kind.values())


@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny", "vit_tiny"])
def test_transformers_keep_products_and_attention_and_drop_the_rest(name: str) -> None:
    case = problem(name)
    graph = case.graph
    products = {"addmm", "mm", "bmm", "_scaled_dot_product_flash_attention_for_cpu"}
    typical = []
    for unit, option in mixed(case):
        actions = option.distinct
        dropped = saved_by(graph, unit, option, Action.RECOMPUTE)
        if actions == {Action.KEEP, Action.RECOMPUTE} and not dropped & products:
            before = case.chain.units[unit.index].saved_bytes
            seconds, held, _ = figures(case, unit, option)
            whole_s, _, _ = figures(case, unit, recompute_option(unit))
            typical.append(held < 0.7 * before and seconds < 0.2 * whole_s)
    assert sum(typical) >= 4


def test_only_what_is_allowed_is_offered() -> None:
    graph = toy_graph(batch=64)
    unified = problem_of(graph, hardware=cpu_hardware(host_pool="none"))
    actions = {a for unit in graph.units for o in unit_menu(unified, unit) for a in o.distinct}
    assert actions == {Action.KEEP, Action.RECOMPUTE}
    fixed = graph.units[-1]
    assert fixed.fixed_reason
    assert unit_menu(problem_of(graph), fixed) == (keep_option(fixed),)
    moved = {o for unit in graph.units for o in unit_menu(problem_of(graph), unit)}
    assert offload_option(graph, graph.units[1]) in moved
