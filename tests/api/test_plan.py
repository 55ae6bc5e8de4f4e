from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import remora
from remora.api.plan import Plan
from remora.errors import FileFormatError, InfeasibleError, InvalidInputError, UnknownNameError
from tests.api.small_models import make_stack, small_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan()


def test_the_plan_fits_and_is_compared(plan: Plan) -> None:
    assert plan.estimate.peak_memory_bytes <= plan.budget_bytes
    assert plan.lower_bound_s <= plan.estimate.step_time_s
    assert [row.name for row in plan.candidates] == ["keep_all", "recompute_all", "greedy"]
    assert [row.chosen for row in plan.candidates] == [False, False, True]
    assert plan.keep_all_timeline.max_peak_bytes > plan.budget_bytes


def test_the_default_agent_is_never_worse_than_its_members() -> None:
    best = small_plan(agent="best")
    feasible = [row.step_time_s for row in best.candidates if row.feasible and row.step_time_s]
    assert best.estimate.step_time_s <= min(feasible) * (1 + 1e-9)
    assert sum(row.chosen for row in best.candidates) == 1


@pytest.mark.parametrize("memory", ["range:0", "range:1", "1GiB", None])
def test_budgets_are_kept(memory: str | None) -> None:
    model, inputs = make_stack()
    plan = remora.optimize(model, inputs, memory, hardware="rtx3090", agent="best")
    assert plan.estimate.peak_memory_bytes <= plan.budget_bytes


def test_the_same_call_gives_the_same_schedule() -> None:
    assert small_plan(agent="best").schedule == small_plan(agent="best").schedule


def test_apply_and_remove_leave_gradients_and_model_as_they_were() -> None:
    model, inputs = make_stack()
    plan = remora.optimize(model, inputs, "range:0.3", hardware="rtx3090", agent="recompute_all")
    torch.manual_seed(1)
    model(*inputs).square().sum().backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    handle = plan.apply(model)
    torch.manual_seed(1)
    model(*inputs).square().sum().backward()
    handle.remove()
    for parameter, gradient in zip(model.parameters(), plain, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert all("forward" not in vars(module) for module in model.modules())


def test_verify_runs_in_process_and_passes(plan: Plan) -> None:
    model, inputs = make_stack()
    before = [parameter.clone() for parameter in model.parameters()]
    generous = dataclasses.replace(
        plan, problem=dataclasses.replace(plan.problem, budget_bytes=2**30)
    )
    verification = generous.verify(model, inputs)
    assert not verification.gradients_differ
    assert not verification.run_failed
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_verify_refuses_another_model(plan: Plan) -> None:
    model, inputs = make_stack(depth=5)
    with pytest.raises(FileFormatError, match="another model, batch or loss"):
        plan.verify(model, inputs)


def test_a_saved_plan_is_loaded_whole(plan: Plan, tmp_path: Path) -> None:
    files = plan.save(tmp_path)
    assert sorted(path.name for path in files) == [
        "estimate.json",
        "problem.json",
        "schedule.json",
    ]
    loaded = remora.load(tmp_path)
    assert loaded == plan
    assert loaded.timeline == plan.timeline
    assert loaded.report(tmp_path / "report.html").exists()


def _spoil(path: Path, **values: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize("name", ["schedule.json", "estimate.json", "problem.json"])
def test_bad_files_are_named(plan: Plan, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    plan.save(tmp_path)
    _spoil(path, version=99)
    with pytest.raises(FileFormatError, match=rf"{name}.* version(?: is)? 99"):
        remora.load(tmp_path)
    plan.save(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(FileFormatError, match=rf"{name}.* cut short"):
        remora.load(tmp_path)
    plan.save(tmp_path)
    _spoil(path, extra={"_target_": "os.system"})
    with pytest.raises(FileFormatError, match=rf"{name}.*_target_"):
        remora.load(tmp_path)
    path.unlink()
    with pytest.raises(FileFormatError, match=name):
        remora.load(tmp_path)


@pytest.mark.parametrize("field", ["estimate", "candidates", "budget_bytes"])
def test_garbled_fields_are_named(plan: Plan, tmp_path: Path, field: str) -> None:
    plan.save(tmp_path)
    _spoil(tmp_path / "estimate.json", **{field: "x"})
    with pytest.raises(FileFormatError, match=r"estimate\.json lacks or garbles a field"):
        remora.load(tmp_path)


def test_files_of_two_plans_do_not_mix(plan: Plan, tmp_path: Path) -> None:
    model, inputs = make_stack(depth=5)
    other = remora.optimize(model, inputs, "range:0.5", hardware="rtx3090", agent="greedy")
    plan.save(tmp_path / "a")
    other.save(tmp_path / "b")
    (tmp_path / "b" / "schedule.json").replace(tmp_path / "a" / "schedule.json")
    with pytest.raises(FileFormatError, match="another model"):
        remora.load(tmp_path / "a")


def test_too_small_a_budget_names_one_that_works() -> None:
    with pytest.raises(InfeasibleError) as caught:
        small_plan("1KiB", "best")
    smallest = caught.value.smallest_budget_bytes
    assert smallest is not None
    assert sum(caught.value.breakdown.values()) == smallest
    assert small_plan(str(smallest), "best").estimate.peak_memory_bytes <= smallest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hardware": "h10"}, "unknown hardware 'h10'"),
        ({"agent": "gredy"}, "did you mean 'greedy'"),
        ({"optimizer": "adammw"}, "did you mean 'adamw'"),
        ({"cost_model": "rooflin"}, "did you mean 'roofline'"),
    ],
)
def test_unknown_names_are_refused(values: dict[str, str], message: str) -> None:
    model, inputs = make_stack()
    with pytest.raises(UnknownNameError, match=message):
        remora.optimize(model, inputs, "range:0.5", **{"hardware": "rtx3090", **values})


def test_what_this_version_cannot_do_is_refused() -> None:
    model, inputs = make_stack()
    with pytest.raises(InvalidInputError, match="cost_model is 'profiled'"):
        remora.optimize(model, inputs, "1GiB", hardware="rtx3090", cost_model="profiled")


def test_a_plan_is_shown_in_one_line(plan: Plan) -> None:
    assert len(repr(plan)) < 300
    assert "agent='greedy'" in repr(plan)


def test_the_report_shows_the_verdict_that_it_is_given(tmp_path: Path) -> None:
    model, inputs = make_stack()
    plan = remora.optimize(model, inputs, "range:0.5", agent="greedy")
    before = plan.report(tmp_path / "before.html").read_text()
    after = plan.report(tmp_path / "after.html", plan.verify(model, inputs)).read_text()
    assert "not yet" in before
    assert "not yet" not in after


def test_a_plan_that_takes_the_place_of_another_takes_its_verdict_away(
    plan: Plan, tmp_path: Path
) -> None:
    (tmp_path / "verification.json").write_text("{}")
    plan.save(tmp_path)
    assert not (tmp_path / "verification.json").exists()


def test_one_plan_is_applied_at_a_time() -> None:
    model, inputs = make_stack()
    plan = remora.optimize(model, inputs, "range:0", agent="recompute_all")
    with (
        plan.apply(model),
        pytest.raises(InvalidInputError, match="runs by a plan already; allowed: one plan at a t"),
    ):
        plan.apply(model)
    plan.apply(model).remove()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "model is a NoneType; allowed: a torch.nn.Module"),
        ({"world_size": "2"}, "world_size is '2'; allowed: 1 or more"),
        ({"world_size": 2.0}, "world_size is 2.0; allowed: 1 or more"),
        ({"time_limit_s": "x"}, "time_limit_s is 'x'; allowed: a number of seconds above 0"),
        ({"loss": "mse"}, "loss is 'mse'; allowed: a function of the model's output"),
        ({"loss": torch.sum, "mode": "inference"}, "loss is given with mode='inference'"),
        ({"units": "blocks.1"}, "units is 'blocks.1'; allowed: a list of names"),
        ({"precisions": "bf16"}, "precisions is 'bf16'; allowed: a list of names"),
    ],
)
def test_arguments_of_other_kinds_are_named(changes: dict[str, Any], message: str) -> None:
    model, inputs = make_stack()
    values = {"model": model, "example_inputs": inputs, **changes}
    with pytest.raises(InvalidInputError, match=message):
        remora.optimize(**values)


def test_an_optimizer_that_is_no_name_is_refused_in_words() -> None:
    model, inputs = make_stack()
    with pytest.raises(UnknownNameError, match="unknown optimizer"):
        remora.optimize(model, inputs, optimizer=torch.optim.SGD)  # type: ignore[arg-type]


def test_a_plan_is_for_the_model_that_was_planned() -> None:
    model, inputs = make_stack()
    plan = remora.optimize(model, inputs, "range:0", agent="recompute_all")
    deeper, _ = make_stack(depth=8)
    with pytest.raises(InvalidInputError, match=r"has parameter '.*', which that of the plan does"):
        plan.apply(deeper)
    with pytest.raises(
        InvalidInputError, match=r"has parameter '.*' with .* bytes, in that of the"
    ):
        plan.apply(model.double())
    model.float()
    plan.apply(model).remove()
