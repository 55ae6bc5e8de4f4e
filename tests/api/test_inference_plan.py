"""From a model to a plan of inference, its files, and its proof."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import remora
from remora.api.model_source import ModelSource
from remora.api.passes import pass_example
from remora.api.plan import Plan
from remora.api.plan_files import verification_from_values
from remora.api.verify_here import VerifyJob
from remora.api.verify_process import request_values
from remora.api.verify_worker import answer_request
from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.problem import OPTIMIZERS
from remora.zoo import Example, build_target
from tests.problems import BlockChain, cpu_hardware
from tests.zoo.model_files import load


def example() -> Example:
    values = load("model", "gpt2_tiny")
    torch.manual_seed(0)
    return pass_example(build_target(values["target"], values["values"]))


def planned(model: nn.Module, inputs: object, memory: str = "range:0.3", **more: object) -> Plan:
    return remora.optimize(
        model,
        inputs,  # type: ignore[arg-type]
        memory,
        hardware=cpu_hardware(),
        cost_model="roofline",
        mode="inference",
        agent="stream_fewest",
        **more,  # type: ignore[arg-type]
    )


def test_a_plan_of_inference_runs_and_is_verified() -> None:
    one = example()
    inputs = dict(one.example_inputs)  # type: ignore[call-overload]
    plan = planned(one.model, inputs, prompt_tokens=24, generated_tokens=8)
    assert plan.problem.mode is Mode.INFERENCE
    assert plan.problem.optimizer == OPTIMIZERS["none"]
    assert plan.schedule.state.streamed_units or plan.schedule.state.host_caches
    assert plan.estimate.latency_s == plan.estimate.step_time_s
    assert plan.estimate.sequences_per_s == pytest.approx(4 / plan.estimate.step_time_s)
    verification = plan.verify(one.model, inputs)
    assert verification.failures == ()
    with torch.no_grad():
        before = one.model(**inputs).logits
        with plan.apply(one.model):
            assert torch.equal(one.model(**inputs).logits, before)


def test_the_words_are_those_of_a_pass() -> None:
    plan = planned(BlockChain((64,) * 4), (torch.randn(8, 16),))
    from remora.report.summary import candidate_cells, summary_sentences

    assert candidate_cells(plan.content())[0][1] == "pass time"
    text = " ".join(summary_sentences(plan.content()))
    assert "per pass" in text
    assert "sequences per second" in text
    assert "step" not in text
    assert "optimizer" not in text


def test_every_unit_has_two_places_for_what_it_needs() -> None:
    one = example()
    plan = planned(one.model, dict(one.example_inputs), prompt_tokens=24, generated_tokens=8)  # type: ignore[call-overload]
    state = plan.schedule.state
    for choice in plan.explained_content().choices:
        taken = choice.taken
        assert taken is not None
        full = choice.alternatives[0]
        away = choice.index in state.streamed_units or choice.index in state.host_caches
        assert away == (taken.held_bytes < full.held_bytes)
        assert away == (taken.copy_s > 0)
        cached = choice.index in state.host_caches
        assert cached == (away and "cache" in taken.name and "host" in taken.name)


def test_a_plan_of_inference_survives_its_files(tmp_path: Path) -> None:
    one = example()
    plan = planned(one.model, one.example_inputs, generated_tokens=8)
    plan.save(tmp_path)
    loaded = remora.load(tmp_path)
    assert loaded.schedule == plan.schedule
    assert loaded.estimate == plan.estimate
    assert loaded.problem.inference == plan.problem.inference
    assert loaded.timeline.step_time_s == plan.timeline.step_time_s


def test_the_ends_of_a_range_are_all_and_nothing_on_the_device() -> None:
    model, inputs = BlockChain((64,) * 6), (torch.randn(8, 16),)
    least, most = (planned(model, inputs, f"range:{end}") for end in (0, 1))
    assert len(least.schedule.state.streamed_units) == 7
    assert most.schedule.state.streamed_units == ()
    assert least.budget_bytes < most.budget_bytes
    assert model.training


def test_a_model_in_training_mode_is_not_run_by_it() -> None:
    model = BlockChain((64,) * 4)
    plan = planned(model, (torch.randn(8, 16),))
    with pytest.raises(InvalidInputError, match="the model is in training mode"):
        plan.apply(model)
    with pytest.raises(InvalidInputError, match=r"passes run by serve_on_ranks\(\)"):
        plan.on_ranks(model, (torch.randn(8, 16),))


def test_passes_are_served_on_the_only_rank_in_micro_batches() -> None:
    one = example()
    inputs: Any = one.example_inputs
    prompt = inputs["input_ids"][:, :24]
    plan = planned(one.model, inputs, prompt_tokens=24, generated_tokens=4, micro_batches=2)
    with torch.no_grad():
        logits = one.model(**inputs).logits
        asked = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
        tokens = one.model.generate(prompt, **asked, pad_token_id=0)
    with plan.serve_on_ranks(one.model, inputs) as ranks:
        output = ranks.forward(inputs)
        assert output is not None
        torch.testing.assert_close(output[0], logits)
        assert torch.equal(ranks.generate(prompt), tokens)
        with pytest.raises(InvalidInputError, match="prompt is dict; allowed: a tensor of token"):
            ranks.generate({"input_ids": prompt})  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match=r"batch has \['ids'\]; allowed, as planned"):
            ranks.forward({"ids": prompt})
        with pytest.raises(
            InvalidInputError, match=r"prompt has shape \(\d, 3\); allowed for this"
        ):
            ranks.generate(prompt[:, :3])
    assert torch.equal(one.model(**inputs).logits, logits)


def test_what_was_not_planned_is_not_served() -> None:
    model, inputs = BlockChain((64,) * 4).eval(), (torch.randn(8, 16),)
    plan = planned(model, inputs)
    with (
        plan.serve_on_ranks(model, inputs) as ranks,
        pytest.raises(InvalidInputError, match=r"generated_tokens=0; allowed for generate\(\)"),
    ):
        ranks.generate(torch.zeros(8, 4, dtype=torch.long))
    trained = remora.optimize(model, inputs, "range:1", time_limit_s=1)
    with pytest.raises(InvalidInputError, match=r"mode='train'; allowed for serve_on_ranks\(\)"):
        trained.serve_on_ranks(model, inputs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"agent": "greedy"}, r"agent is 'greedy' and mode is 'inference', .* allowed: best"),
        ({"cost_model": "gnn"}, "cost_model is 'gnn' with mode='inference'"),
        ({"global_batch": True}, "global_batch is true with mode='inference'"),
        ({"tensor_degree": 2, "world_size": 2}, "tensor_degree is 2 with mode='inference'"),
        ({"generated_tokens": 3}, r"generated_tokens is 3 and the model BlockChain does not"),
    ],
)
def test_what_inference_has_no_use_for_is_refused(values: dict[str, object], message: str) -> None:
    asked: dict[str, object] = {"cost_model": "roofline", "agent": "stream_all", **values}
    with pytest.raises(InvalidInputError, match=message):
        remora.optimize(
            BlockChain((64,) * 4),
            (torch.randn(8, 16),),
            hardware=cpu_hardware(),
            mode="inference",
            **asked,  # type: ignore[arg-type]
        )


def test_a_process_of_its_own_is_told_what_to_verify() -> None:
    values = load("model", "gpt2_tiny")
    source = ModelSource("gpt2_tiny", values["target"], values["values"])
    one = example()
    plan = planned(one.model, one.example_inputs, prompt_tokens=24, generated_tokens=4)
    job = VerifyJob(
        source,
        plan.schedule,
        plan.budget_bytes,
        plan.estimate,
        plan.problem.optimizer.name,
        inference=plan.problem.inference,
    )
    answer = answer_request(json.loads(json.dumps(request_values(job))))
    verification = verification_from_values(answer["verification"])
    assert verification.failures == ()
    several = answer_request(request_values(dataclasses.replace(job, world_size=2)))
    assert "world_size is 2; allowed here: 1, since so many ranks run" in several["message"]
