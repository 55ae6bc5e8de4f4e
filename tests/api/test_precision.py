"""Precision as a decision: chosen for its price, saved, run, held to its tolerance, refused."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest

import remora
from remora.api.hardware import find_hardware
from remora.api.plan import Plan
from remora.api.planning import optimize
from remora.api.precision_variants import assignments
from remora.errors import InvalidInputError
from remora.executor import precision_errors
from remora.executor.compare import gradient_distance, run_once
from remora.graph.precision.precision import Precision
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware
from tests.api.small_models import make_stack
from tests.low_bit import BF16, INT8, MODEL, stack_graph, zoo_example
from tests.problems import cpu_hardware


def device(**rates: float) -> Hardware:
    """Products take long in float32, and copies and launches no time."""
    return dataclasses.replace(
        cpu_hardware(),
        flops_per_s={"float32": 1e8, **rates},
        memory_bandwidth_bytes_per_s=1e12,
        kernel_launch_s=1e-9,
    )


def plan_of(record: Hardware, agent: str = "greedy", **options: object) -> Plan:
    model, inputs = make_stack()
    return optimize(
        model,
        inputs,
        "200%",
        hardware=record,
        agent=agent,
        time_limit_s=3.0,
        cost_model="roofline",
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("agent", ["greedy", "rank_greedy"])
def test_the_rate_of_the_device_decides(agent: str) -> None:
    fast = plan_of(device(bfloat16=1e9, int8=2e8), agent, precisions=("bf16", "int8"))
    assert set(fast.schedule.precision.units) == {BF16, MODEL}
    slow = plan_of(device(bfloat16=1e7, int8=1e7), agent, precisions=("bf16", "int8"))
    assert slow.schedule.precision.units == ()
    plain = plan_of(device(bfloat16=1e9))
    assert plain.schedule.precision.units == ()
    assert fast.estimate.step_time_s < 0.3 * plain.estimate.step_time_s


def test_replanning_keeps_the_precisions_of_a_plan_that_runs() -> None:
    model, inputs = make_stack()
    plan = plan_of(device(bfloat16=1e9), precisions=("bf16",))
    tighter = remora.replan(plan, plan.estimate.peak_memory_bytes * 95 // 100)
    assert tighter.schedule.precision == plan.schedule.precision
    assert tighter.schedule != plan.schedule
    with plan.apply(model) as handle:
        before = run_once(model, inputs, None, 0, handle)
        model.zero_grad(set_to_none=True)
        handle.update(tighter)
        after = run_once(model, inputs, None, 0, handle)
        model.zero_grad(set_to_none=True)
        plain = plan_of(device())
        with pytest.raises(InvalidInputError, match="computes other units in fewer bits"):
            handle.update(plain)
    assert gradient_distance(before, after) == 0.0


def test_a_plan_is_saved_and_read_with_its_precisions(tmp_path: Path) -> None:
    plan = plan_of(device(bfloat16=1e9), precisions=("bf16",))
    plan.save(tmp_path)
    again = remora.load(tmp_path)
    assert again.schedule == plan.schedule
    assert again.problem.graph.precisions == plan.schedule.precision.units


def test_verify_tells_errors_beside_what_was_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make_stack()
    plan = plan_of(device(bfloat16=1e9), precisions=("bf16",))
    verification = plan.verify(model, inputs)
    errors = verification.precision
    assert verification.passed
    assert verification.measurement.peak_memory_bytes <= plan.estimate.peak_memory_bytes * 1.03
    assert verification.plain is not None
    assert errors is not None
    assert 0 < errors.median_gradient <= errors.max_gradient
    assert 0 < errors.gradients < errors.gradient_tolerance
    strict = dict.fromkeys(Precision, 1e-9)
    monkeypatch.setattr(precision_errors, "_GRADIENT_TOLERANCE", strict)
    monkeypatch.setattr(precision_errors, "_ROUNDED_FACTOR", 0.0)
    assert plan.verify(model, inputs).failures == ("gradients_differ",)


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("int4", "train", "precision is 'int4'; allowed on toy: bf16$"),
        ("fp8", "train", "precision is 'fp8'; allowed on toy: bf16$"),
        ("bf16", "inference", "precision is 'bf16'; allowed on toy: int8$"),
    ],
)
def test_what_the_device_lacks_is_refused(name: str, mode: str, message: str) -> None:
    record = dataclasses.replace(device(bfloat16=1e9), name="toy")
    agent = "greedy" if mode == "train" else "stream_all"
    with pytest.raises(InvalidInputError, match=message):
        plan_of(record, agent, precisions=(name,), mode=mode)


def test_the_fastest_and_the_leanest_assignment_are_among_those_planned() -> None:
    base = stack_graph()
    model, inputs = make_stack()
    found = assignments(
        base,
        (BF16, INT8),
        lambda units: trace(model, inputs, precisions=units),
        device(bfloat16=2e8, int8=1e10),
    )
    inside = [unit.index for unit in base.units if unit.steps][1:-1]
    # The first unit and the last, which eight bits are kept from, and those between.
    fastest = [one for one in found if all(one[unit] is INT8 for unit in inside)]
    assert BF16 in {one[0] for one in fastest}
    leanest = [one for one in found if all(one[unit] is BF16 for unit in inside)]
    assert leanest
    assert len(set(found)) == len(found) <= 4


def test_weights_in_eight_bits_take_a_quarter_of_the_device() -> None:
    example = zoo_example("llama_tiny")
    plan = functools.partial(
        optimize,
        example.model,
        {name: value for name, value in example.example_inputs.items() if name != "labels"},
        hardware=device(),
        agent="keep_all",
        optimizer=None,
        cost_model="roofline",
        mode="inference",
    )
    plain = plan("300%")
    whole = plain.problem.graph.parameter_bytes
    tight = plan(plain.estimate.peak_memory_bytes * 7 // 10, precisions=("int8",))
    short = tight.problem.graph.parameter_bytes
    table = sum(p.nbytes for p in example.model.get_input_embeddings().parameters())
    assert short - table == pytest.approx((whole - table) / 4, rel=0.02)
    inputs = {n: v for n, v in example.example_inputs.items() if n != "labels"}
    verification = tight.verify(example.model.eval(), inputs)
    assert verification.passed
    assert verification.precision is not None
    assert 0 < verification.precision.loss < 0.05
    assert verification.plain is not None
    saved = verification.plain.peak_memory_bytes - verification.measurement.peak_memory_bytes
    assert saved > 0.25 * verification.plain.peak_memory_bytes


def test_a_hardware_knows_its_rates_in_eight_bits() -> None:
    assert {"int8", "float8"} <= set(find_hardware("h100_sxm").flops_per_s)
