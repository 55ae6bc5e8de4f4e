"""Partial recomputation against a tiny interpreter that knows nothing of how closures are found."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from remora.graph.model_graph import ModelGraph, Op, Unit
from remora.schedule.chain import Chain
from remora.schedule.menu import keep_option, recompute_option
from remora.schedule.recompute import (
    Rerun,
    can_compress,
    compressed_bytes,
    rerun_of,
    restore_rise_bytes,
    storage_actions,
)
from remora.schedule.schedule import Action, UnitOption
from tests.problems import problem_of, toy_graph, zoo_graph
from tests.zoo.model_files import TINY


def chain_of(name: str) -> Chain:
    return problem_of(toy_graph() if name == "toy" else zoo_graph(name)).chain


def option_of(chain: Chain, unit: Unit, recomputed: Iterable[int]) -> UnitOption:
    """Recompute the given storages and keep the rest."""
    chosen = set(recomputed)
    return UnitOption(
        tuple(
            (s.name, Action.RECOMPUTE if chain.graph.storage_of(s) in chosen else Action.KEEP)
            for s in unit.saved
        )
    )


def random_options(chain: Chain, unit: Unit, seed: int, count: int) -> list[UnitOption]:
    draw = random.Random(seed)
    own = [s.storage for s in chain.units[unit.index].saved if s.created_here]
    options = [
        option_of(chain, unit, draw.sample(own, draw.randint(1, len(own))))
        for _ in range(count if own else 0)
    ]
    return [option for option in options if option != recompute_option(unit)]


class Interpreter:
    """Contents of storages as (storage, operator that last wrote it)."""

    def __init__(self, graph: ModelGraph, unit: Unit) -> None:
        self.graph = graph
        self.unit = unit
        self.found: dict[int, dict[int, int]] = {}
        self.final: dict[int, int] = {}
        for index in range(*unit.forward):
            op = graph.ops[index]
            self.found[index] = {s: self.final.get(s, -1) for s in self.reads(op)}
            self.final.update(dict.fromkeys(self.changes(index, op), index))

    def reads(self, op: Op) -> set[int]:
        """Storages whose values matter; batch norm in training ignores its statistics."""
        if op.view or "_like." in op.name or ".new_" in op.name:
            return set()
        storages = {self.graph.tensors[t].storage for t in op.inputs}
        return storages - set(op.mutates) if "batch_norm" in op.name else storages

    def changes(self, index: int, op: Op) -> set[int]:
        made = {self.graph.tensors[t].storage for t in op.outputs}
        made = {s for s in made if self.graph.storages[s].created == index}
        return made if "batch_norm" in op.name or op.view else made | set(op.mutates)

    def repeats(self, ops: Iterable[int], there: set[int], wanted: Iterable[int]) -> bool:
        """Whether running ``ops`` gives ``wanted`` their contents again, given ``there``."""
        again: dict[int, int] = {}
        for index in ops:
            op = self.graph.ops[index]
            for storage, content in self.found[index].items():
                outside = self.graph.storages[storage].created < self.unit.forward[0]
                lasting = storage in there or outside
                values = {self.final.get(storage, -1)} if lasting else set()
                if storage in again or outside:
                    values.add(again.get(storage, -1))
                if content not in values:
                    return False
            again.update(dict.fromkeys(self.changes(index, op), index))
        return all(again.get(storage) == self.final[storage] for storage in wanted)


def check(chain: Chain, unit: Unit, option: UnitOption) -> None:
    rerun = rerun_of(chain, unit.index, option)
    actions = storage_actions(chain, unit.index, option)
    assert rerun is not None
    assert set(rerun.fills) == {s for s, a in actions.items() if a is Action.RECOMPUTE}
    interpreter = Interpreter(chain.graph, unit)
    there = actions.keys() - set(rerun.fills)
    assert interpreter.repeats(rerun.ops, there, rerun.fills)
    for op in rerun.ops:
        fewer = [other for other in rerun.ops if other != op]
        assert not interpreter.repeats(fewer, there, rerun.fills), chain.graph.ops[op].name
    check_reads(chain, unit, rerun, there)


def check_reads(chain: Chain, unit: Unit, rerun: Rerun, saved: set[int]) -> None:
    interpreter = Interpreter(chain.graph, unit)
    read = {s for op in rerun.ops for s in interpreter.reads(chain.graph.ops[op])}
    storages = chain.graph.storages
    earlier = {s for s in read if 0 <= storages[s].created < unit.forward[0]}
    assert set(rerun.reads) == earlier - saved


@pytest.mark.parametrize("name", ["toy", *TINY])
def test_operators_suffice_and_none_is_spare(name: str) -> None:
    chain = chain_of(name)
    seen: set[str] = set()
    for unit in chain.graph.units:
        if unit.kind not in seen:
            for option in random_options(chain, unit, seed=unit.index, count=6):
                check(chain, unit, option)
        seen.add(unit.kind)


@pytest.mark.parametrize("name", ["gpt2_tiny", "resnet_tiny", "swin_test"])
def test_units_of_one_kind_rerun_alike(name: str) -> None:
    chain = chain_of(name)
    for unit in chain.graph.units:
        fresh = Chain(chain.graph, chain.costs)
        for option in random_options(chain, unit, seed=7, count=2):
            assert rerun_of(chain, unit.index, option) == rerun_of(fresh, unit.index, option)


def test_nothing_runs_again_without_a_partial_option() -> None:
    chain = chain_of("toy")
    for unit in chain.graph.units:
        assert rerun_of(chain, unit.index, keep_option(unit)) is None
        assert rerun_of(chain, unit.index, recompute_option(unit)) is None


def test_a_rerun_by_hand() -> None:
    # norm -> up -> relu -> down: the input of `down` is the result of relu.
    chain = chain_of("toy")
    unit = chain.graph.units[1]
    by_op = {chain.graph.ops[i].name.split(".")[1]: i for i in range(*unit.forward)}
    relu = chain.graph.tensors[chain.graph.ops[by_op["relu"]].outputs[0]].storage
    option = option_of(chain, unit, [relu])
    rerun = rerun_of(chain, unit.index, option)
    assert rerun is not None
    names = [chain.graph.ops[op].name for op in rerun.ops]
    # The result of the norm is saved too, so nothing before it runs again.
    assert names == ["aten.addmm.default", "aten.relu.default"]
    assert rerun.fills == (relu,)
    assert rerun.reads == ()
    # The result of addmm is still there while relu makes its own.
    assert rerun.transient_bytes == 2 * chain.num_bytes(relu)
    assert rerun.duration_s == pytest.approx(sum(chain.costs.op_time_s[op] for op in rerun.ops))


def test_views_that_disagree_and_foreign_tensors_are_kept() -> None:
    chain = chain_of("gpt2_tiny")
    for unit in chain.graph.units:
        saved = chain.units[unit.index].saved
        option = UnitOption(
            tuple((s.name, Action.RECOMPUTE if s.index % 2 else Action.KEEP) for s in unit.saved)
        )
        actions = storage_actions(chain, unit.index, option)
        assert list(actions) == [s.storage for s in saved]
        for storage in saved:
            agreed = {option.action_of(name) for name in storage.names} == {Action.RECOMPUTE}
            expected = agreed and storage.created_here
            assert (actions[storage.storage] is Action.RECOMPUTE) == expected


def test_compressed_sizes() -> None:
    chain = chain_of("gpt2_tiny")
    sizes = set()
    for unit in chain.graph.units:
        for saved in chain.units[unit.index].saved:
            if can_compress(chain.graph, unit, saved.storage):
                values = saved.num_bytes // 4
                expected = values + 4 * -(-values // 256)
                assert compressed_bytes(chain, saved.storage) == expected
                sizes.add(expected)
    assert len(sizes) > 2


def test_masks_and_indices_are_not_compressed() -> None:
    for name in ("gpt2_tiny", "swin_test"):
        chain = chain_of(name)
        for unit in chain.graph.units:
            for saved in unit.saved:
                view = chain.graph.tensors[saved.tensor]
                if view.dtype in ("int64", "bool"):
                    assert not can_compress(chain.graph, unit, view.storage)


def test_restoring_one_by_one() -> None:
    assert restore_rise_bytes([], []) == 0
    assert restore_rise_bytes([100], [26]) == 100
    assert restore_rise_bytes([100, 40], [26, 11]) == 114
    assert restore_rise_bytes([100, 10], [26, 3]) == 100
