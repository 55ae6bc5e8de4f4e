"""Measured times in a cost table, and measuring each thing once."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from remora.cost_models.measurement_cache import collect_measurements
from remora.cost_models.profiled import profiled_costs
from remora.cost_models.roofline import roofline_costs
from remora.graph.model_graph import ModelGraph
from remora.graph.signature import op_signature
from remora.hardware.measurements import Measurements, Overheads, UnitTimes
from tests.cost_models.hand_graph import hand_graph, hand_hardware

TIMES = UnitTimes(forward_op_s=(2e-3,), backward_op_s=(1e-6,), repetitions=5)


class CountingMeasurer:
    """Gives fixed figures and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def units(
        self, graph: ModelGraph, kinds: AbstractSet[str]
    ) -> tuple[dict[str, UnitTimes], tuple[str, ...]]:
        self.asked += sorted(kinds)
        return dict.fromkeys(kinds, TIMES), ()

    def workspaces(
        self, graph: ModelGraph, signatures: AbstractSet[str]
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        self.asked += sorted(signatures)
        return dict.fromkeys(signatures, 64), ("a note",)

    def overheads_name(self, graph: ModelGraph) -> str:
        return "any"

    def overheads(self, graph: ModelGraph, units: Mapping[str, UnitTimes]) -> Overheads:
        assert units.keys() == {unit.kind for unit in graph.units}
        self.asked.append("overheads")
        return Overheads(forward_op_s=1e-6, backward_op_s=-5e-6)

    def optimizer_s(self, graph: ModelGraph, optimizer: str) -> float:
        self.asked.append(optimizer)
        return 0.25


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REMORA_CACHE_DIR", str(tmp_path))


def collect(measurer: CountingMeasurer, force: bool = False) -> Measurements:
    return collect_measurements(hand_graph(), hand_hardware(), "adamw", measurer, force)


def test_table_takes_times_of_the_kind_plus_overheads() -> None:
    costs = profiled_costs(hand_graph(), hand_hardware(), collect(CountingMeasurer()))
    # The backward's overhead would make the view negative; a tenth of its time remains.
    assert costs.op_time_s == pytest.approx((2.001e-3, 2.001e-3, 1e-7, 1e-7))
    assert costs.op_workspace_bytes == (64, 64, 0, 0)
    assert costs.optimizer_time_s == 0.25
    assert costs.source == "profiled"
    assert costs.d2h_bytes_per_s == hand_hardware().host.d2h_bytes_per_s


def test_roofline_where_nothing_was_measured() -> None:
    graph, hardware = hand_graph(), hand_hardware()
    roofline = roofline_costs(graph, hardware)
    overheads = Overheads(1e-6, 1e-6)
    absent = profiled_costs(graph, hardware, Measurements({}, {}, overheads, 0.1))
    assert absent.op_time_s == roofline.op_time_s
    partly = UnitTimes(forward_op_s=(None,), backward_op_s=(3e-6,), repetitions=1)
    mixed = profiled_costs(graph, hardware, Measurements({"kind": partly}, {}, overheads, 0.1))
    assert mixed.op_time_s == pytest.approx((*roofline.op_time_s[:2], 4e-6, 4e-6))


def test_second_run_measures_nothing() -> None:
    first, second = CountingMeasurer(), CountingMeasurer()
    graph = hand_graph()
    signatures = sorted({op_signature(graph, op) for op in graph.ops if not op.view})
    before = collect(first)
    assert first.asked == ["kind", *signatures, "overheads", "adamw"]
    after = collect(second)
    assert second.asked == []
    assert after.units == before.units
    assert after.workspace_bytes == before.workspace_bytes
    assert after.overheads == before.overheads
    assert after.optimizer_s == before.optimizer_s


def test_force_measures_again() -> None:
    collect(CountingMeasurer())
    measurer = CountingMeasurer()
    collect(measurer, force=True)
    assert measurer.asked[0] == "kind"
    assert measurer.asked[-1] == "adamw"


@pytest.mark.parametrize("text", ["{", '{"format": 9, "content": 1}', '{"format": 1}', "[]"])
@pytest.mark.parametrize("name", ["unit-kind", "workspaces", "overheads-any", "optimizer-adamw-*"])
def test_corrupt_file_is_named_and_measured_anew(tmp_path: Path, name: str, text: str) -> None:
    collect(CountingMeasurer())
    (path,) = tmp_path.rglob(f"{name}.json")
    path.write_text(text)
    measurer = CountingMeasurer()
    with pytest.warns(RuntimeWarning, match=path.name):
        collect(measurer)
    assert measurer.asked
    again = CountingMeasurer()
    collect(again)
    assert again.asked == []


class DisturbedMeasurer(CountingMeasurer):
    """Measures while another program keeps a core busy."""

    def units(
        self, graph: ModelGraph, kinds: AbstractSet[str]
    ) -> tuple[dict[str, UnitTimes], tuple[str, ...]]:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            time.sleep(0.8)
            other.kill()
        return super().units(graph, kinds)


@pytest.mark.skipif((os.cpu_count() or 1) > 4, reason="one program is a small share of many cores")
def test_a_busy_machine_is_remembered_with_what_it_measured(tmp_path: Path) -> None:
    first = collect(DisturbedMeasurer()).disturbance
    assert "while other programs kept up to" in first
    assert str(tmp_path) in first
    measurer = CountingMeasurer()
    assert collect(measurer).disturbance == first
    assert measurer.asked == []


def test_entry_of_another_length_is_measured_anew(tmp_path: Path) -> None:
    collect(CountingMeasurer())
    (path,) = tmp_path.rglob("unit-kind.json")
    path.write_text(path.read_text().replace("[0.002]", "[0.002, 0.1]"))
    measurer = CountingMeasurer()
    collect(measurer)
    assert measurer.asked == ["kind"]


def test_notes_arrive() -> None:
    assert collect(CountingMeasurer()).notes == ("a note",)


def test_overheads_of_an_older_version_are_measured_anew(tmp_path: Path) -> None:
    collect(CountingMeasurer())
    (path,) = tmp_path.rglob("overheads-any.json")
    content = json.loads(path.read_text())
    del content["content"]["recorded_op_s"]
    path.write_text(json.dumps(content))
    measurer = CountingMeasurer()
    with pytest.warns(RuntimeWarning, match="lacks recorded_op_s"):
        collect(measurer)
    assert measurer.asked == ["overheads"]


def test_table_takes_what_compression_and_recording_cost() -> None:
    graph, gpu = hand_graph(), hand_hardware()
    measured = Overheads(0.0, 0.0, 1e-6, 2e-6, compress_bytes_per_s=3e9, restore_bytes_per_s=4e9)
    costs = profiled_costs(graph, gpu, Measurements({}, {}, measured, 0.5))
    assert costs.saved_tensor_overhead_s == 1e-6
    assert costs.recorded_op_overhead_s == 2e-6
    assert costs.compress_bytes_per_s == 3e9
    assert costs.restore_bytes_per_s == 4e9
    # Unmeasured rates are the roofline's, and a GPU's optimizer time says nothing of the host's.
    bare = profiled_costs(graph, gpu, Measurements({}, {}, Overheads(0.0, 0.0), 0.5, (), "sgd"))
    roofline = roofline_costs(graph, gpu, "sgd")
    assert bare.compress_bytes_per_s == roofline.compress_bytes_per_s
    assert bare.host_optimizer_time_s == roofline.host_optimizer_time_s
    cpu = dataclasses.replace(gpu, device_type="cpu")
    costs = profiled_costs(graph, cpu, Measurements({}, {}, measured, 0.5))
    assert costs.host_optimizer_time_s == 0.5
