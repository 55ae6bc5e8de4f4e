from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.cost_models.baselines.fitted_roofline import Roofline
from remora.cost_models.gnn.op_evaluation import median_errors, unit_errors
from remora.cost_models.gnn.op_examples import unit_examples
from remora.cost_models.gnn.op_model import OpTimeModel, fit_op_model
from remora.cost_models.gnn.op_network import (
    CACHE_SPEED,
    MOST_ARITHMETIC,
    NetworkSize,
    OpNetwork,
    as_batch,
    as_data,
)
from remora.cost_models.gnn.op_training import OpTrainingConfig
from remora.cost_models.roofline import roofline_costs, roofline_op_time_s
from remora.errors import FileFormatError, InvalidInputError
from tests.cost_models.gnn.op_runs import quick_model, real_runs, renamed


def test_learns_what_the_roofline_does_not_know() -> None:
    runs = real_runs()
    config = OpTrainingConfig(members=1, epochs=25, batch_units=8, width=24, layers=1)
    model = fit_op_model(runs, config)
    learned = statistics.median(abs(e.error) for e in unit_errors(model, runs))
    plain = statistics.median(abs(e.error) for e in unit_errors(Roofline(), runs))
    assert learned < 0.12
    assert learned < 0.4 * plain


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), loudness=st.floats(0.0, 30.0))
def test_no_prediction_is_faster_than_physics(seed: int, loudness: float) -> None:
    example = unit_examples(real_runs()[:1])[0]
    torch.manual_seed(seed)
    width = example.features.nodes.shape[1]
    network = OpNetwork(1, NetworkSize(8, 1, 4), torch.zeros(width), torch.ones(width))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(loudness * torch.randn_like(parameter))
        times_s = network(as_batch([as_data(example.features, {})])).double().exp().numpy()
    features = example.features
    bound_s = np.maximum(features.arithmetic_s / MOST_ARITHMETIC, features.traffic_s / CACHE_SPEED)
    assert np.isfinite(times_s).all()
    assert (times_s >= bound_s * (1 - 1e-5)).all()


def test_order_of_units_does_not_matter() -> None:
    run = real_runs()[0]
    turned = replace(run.graph, units=tuple(reversed(run.graph.units)))
    straight = quick_model().op_times_s(run.graph, run.setting.hardware)
    again = quick_model().op_times_s(turned, run.setting.hardware)
    np.testing.assert_allclose(again.times_s, straight.times_s, rtol=1e-5)


def test_operator_never_seen_takes_the_rooflines_time_and_is_named() -> None:
    run = real_runs()[0]
    name = next(op.name for op in run.graph.ops if op.flops > 0 and not op.view)
    graph = renamed(run.graph, name, "acme.whirl.default")
    told = quick_model().op_times_s(graph, run.setting.hardware)
    strange = [i for i, op in enumerate(graph.ops) if op.name == "acme.whirl.default"]
    for i in strange:
        assert told.times_s[i] == roofline_op_time_s(graph, graph.ops[i], run.setting.hardware)
    assert [note for note in told.notes if "acme.whirl" in note] == [
        "acme.whirl was never measured: roofline"
    ]
    assert quick_model().op_times_s(run.graph, run.setting.hardware).notes == ()


def test_type_of_device_never_seen_is_left_to_the_roofline() -> None:
    run = real_runs()[0]
    hardware = replace(run.setting.hardware, device_type="cuda")
    told = quick_model().op_times_s(run.graph, hardware)
    assert "no run on cuda was seen" in told.notes[0]
    plain = roofline_costs(run.graph, hardware, "adamw")
    assert told.times_s.tolist() == list(plain.op_time_s)
    costs = quick_model().costs(run.graph, hardware, "adamw")
    assert costs == replace(plain, source="gnn")


def test_costs_add_the_hosts_overheads() -> None:
    run = real_runs()[0]
    hardware = run.setting.hardware
    told = quick_model().op_times_s(run.graph, hardware)
    costs = quick_model().costs(run.graph, hardware, "adamw")
    overheads = quick_model().constants["cpu"].overheads
    assert costs.source == "gnn"
    assert costs.op_time_s[0] == pytest.approx(
        max(told.times_s[0] + overheads.forward_op_s, 0.1 * told.times_s[0])
    )
    assert costs.saved_tensor_overhead_s == overheads.saved_tensor_s
    assert list(costs.op_workspace_bytes) == told.workspace_bytes.tolist()
    measured = run.measurements.optimizer_s
    assert costs.optimizer_time_s == pytest.approx(measured, rel=0.5)


def test_state_is_the_whole_model() -> None:
    run = real_runs()[0]
    tensors, values = quick_model().state()
    again = OpTimeModel.from_state(tensors, values)
    straight = quick_model().op_times_s(run.graph, run.setting.hardware)
    told = again.op_times_s(run.graph, run.setting.hardware)
    np.testing.assert_array_equal(told.times_s, straight.times_s)
    np.testing.assert_array_equal(told.workspace_bytes, straight.workspace_bytes)
    assert again.constants == quick_model().constants


def test_broken_state_is_refused() -> None:
    tensors, values = quick_model().state()
    with pytest.raises(FileFormatError, match="other features"):
        OpTimeModel.from_state(tensors, {**values, "features": ["size"]})
    with pytest.raises(FileFormatError, match="cannot be read"):
        OpTimeModel.from_state({}, values)
    with pytest.raises(FileFormatError, match="cannot be read"):
        OpTimeModel.from_state(tensors, {**values, "size": {"_target_": "os.system"}})


def test_spread_is_the_disagreement_of_the_members() -> None:
    run = real_runs()[0]
    told = quick_model().op_times_s(run.graph, run.setting.hardware)
    assert (told.spread > 0).all()
    alone = replace(quick_model(), members=quick_model().members[:1])
    assert (alone.op_times_s(run.graph, run.setting.hardware).spread == 0).all()


def test_workspace_is_close_to_what_was_measured() -> None:
    examples = unit_examples(real_runs())
    told = [
        quick_model().op_times_s(run.graph, run.setting.hardware).workspace_bytes.max()
        for run in real_runs()
    ]
    assert max(told) > 0
    assert max(told) < 4 * max(example.workspace_bytes.max() for example in examples)


def test_runs_without_units_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="runs has 1 runs"):
        fit_op_model([replace(real_runs()[0], units=())], OpTrainingConfig())


def test_errors_are_grouped_by_family() -> None:
    errors = unit_errors(quick_model(), real_runs())
    families = {run.subject.family for run in real_runs()}
    assert set(median_errors(errors)) == families
    assert set(median_errors(errors, lambda error: error.model)) == {
        run.subject.model for run in real_runs()
    }
