"""Peaks of a family are simulated again with workspaces that were learned without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from remora.cost_models.dataset.families import CALIBRATION
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn import left_out_peaks as module
from remora.cost_models.gnn.left_out_peaks import left_out_peaks
from remora.cost_models.gnn.op_encoder import UnitEncoder
from remora.cost_models.gnn.op_examples import UnitExample, unit_examples
from remora.cost_models.gnn.op_workspace import WorkspaceNetwork, fit_workspace
from remora.cost_models.gnn.step_examples import StepExample, step_examples
from remora.cost_models.profiled import profiled_costs
from tests.cost_models.gnn.op_runs import real_runs

MODELS = ("gpt2", "resnet", "unet")


def chosen_runs() -> list[ProfiledRun]:
    return [run for run in real_runs() if run.subject.model in MODELS]


def measured_examples(runs: Sequence[ProfiledRun]) -> list[StepExample]:
    return step_examples(
        runs, lambda run: profiled_costs(run.graph, run.setting.hardware, run.measured)
    )


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Kinds of units that every network for workspaces is fitted on."""
    found: list[set[str]] = []

    def watched(units: Sequence[UnitExample], names: Sequence[str], seed: int) -> WorkspaceNetwork:
        found.append({unit.kind for unit in units})
        return fit_workspace(units, names, seed)

    monkeypatch.setattr(module, "fit_workspace", watched)
    monkeypatch.setattr("remora.cost_models.gnn.op_workspace._STEPS", 50)
    return found


def test_nothing_of_a_family_teaches_its_own_workspaces(taught: list[set[str]]) -> None:
    runs = chosen_runs()
    examples = measured_examples(runs)
    found = left_out_peaks(runs, examples, 0)
    families = sorted({run.subject.family for run in runs})
    assert len(taught) == len(families) == 3
    for family, kinds in zip(families, taught, strict=True):
        graphs = [run.graph for run in runs if run.subject.family == family]
        assert kinds
        assert not kinds & {unit.kind for graph in graphs for unit in graph.units}
    key = {(example.subject, example.row.label) for example in examples}
    assert {(example.subject, example.row.label) for example in found} == key
    assert len(found) == len(examples)


def test_only_peaks_change(taught: list[set[str]]) -> None:
    runs = chosen_runs()
    known = {(e.subject, e.row.label): e for e in measured_examples(runs)}
    found = left_out_peaks(runs, list(known.values()), 0)
    changed = 0
    for example in found:
        old = known[example.subject, example.row.label]
        assert example.row == old.row
        assert example.problem.cost.op_time_s == old.problem.cost.op_time_s
        assert np.isfinite(example.encoded.steps).all()
        changed += example.encoded.peak_bytes[0] != old.encoded.peak_bytes[0]
    assert changed > 0


def test_networks_for_calibration_always_teach_and_are_not_bounded(taught: list[set[str]]) -> None:
    runs = [
        replace(run, subject=replace(run.subject, family=CALIBRATION))
        if run.subject.model == "unet"
        else run
        for run in chosen_runs()
    ]
    found = left_out_peaks(runs, measured_examples(runs), 0)
    assert {example.family for example in found} == {"convnet", "decoder"}
    own = {row.kind for run in runs if run.subject.family == CALIBRATION for row in run.units}
    others = {
        unit.kind for run in runs if run.subject.family != CALIBRATION for unit in run.graph.units
    }
    assert all(own - others <= kinds for kinds in taught)


def test_one_family_cannot_be_left_out(taught: list[set[str]]) -> None:
    runs = [run for run in real_runs() if run.subject.model == "resnet"]
    examples = measured_examples(runs)
    assert left_out_peaks(runs, examples, 0) == examples
    assert taught == []


def test_units_are_encoded_once() -> None:
    run, encoder = chosen_runs()[0], UnitEncoder()
    first = unit_examples([run], encoder)
    again = unit_examples([replace(run, steps=())], encoder)
    pairs = zip(first, again, strict=True)
    assert all(one.features is other.features for one, other in pairs)
