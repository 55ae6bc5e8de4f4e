"""Passes and generations of pipelines on real ranks, against one process."""

from __future__ import annotations

import pytest
import torch

from remora.errors import InvalidInputError
from remora.executor.pipeline.limits import check_passes_run_on_ranks
from remora.schedule.inference import InferenceSpec
from tests.api.living import living
from tests.executor.pipeline.pass_cases import PassCase, build_pass, run_passes
from tests.zoo.model_files import TINY

DECODERS = ("gpt2_tiny", "llama_tiny", "qwen3_tiny")


def _check(cases: list[PassCase]) -> None:
    ended, verdicts = run_passes(cases)
    assert ended.status == "ok", ended
    assert len(verdicts) == len(cases)
    for case, verdict in zip(cases, verdicts, strict=True):
        assert verdict.failures == (), (case, verdict)
        assert verdict.measurement.step_time_s > 0, case
        assert len(verdict.measurement.peak_by_rank_bytes) == case.ranks, case


def test_outputs_and_tokens_of_two_ranks_are_those_of_one_process() -> None:
    cases = [
        PassCase("gpt2_tiny", new_tokens=4),
        PassCase("gpt2_tiny", new_tokens=4, on_host=True),
        PassCase("vit_tiny"),
        PassCase("gpt2_tiny", new_tokens=2, fault="wrong"),
    ]
    ended, verdicts = run_passes(cases)
    assert ended.status == "ok", ended
    kept, on_host, vision, wrong = verdicts
    assert (kept.failures, on_host.failures, vision.failures) == ((), (), ())
    peaks = zip(
        on_host.measurement.peak_by_rank_bytes, kept.measurement.peak_by_rank_bytes, strict=True
    )
    assert all(lean < full for lean, full in peaks)
    assert {"outputs_differ", "tokens_differ"} <= set(wrong.failures)


def test_the_last_rank_lets_go_of_what_it_returned() -> None:
    counts = (1, 4)
    ended, verdicts = run_passes([PassCase("llama_tiny", micro_batches=m) for m in counts])
    assert ended.status == "ok", ended
    whole, parts = (verdict.measurement.peak_by_rank_bytes for verdict in verdicts)
    first, last = (one - four for one, four in zip(whole, parts, strict=True))
    # A rank that keeps the logits of all micro-batches saves three quarters of them less.
    assert last > first - _logits_bytes(PassCase("llama_tiny")) // 4


def _logits_bytes(case: PassCase) -> int:
    example = build_pass(case).example
    with torch.no_grad():
        output = example.model(**example.example_inputs)
    return int(output.logits.nbytes)


def test_a_rank_that_is_killed_ends_the_run_by_name() -> None:
    with living() as processes:
        ended, verdicts = run_passes([PassCase("gpt2_tiny", new_tokens=2, fault="kill")])
        assert processes.all_gone()
    assert verdicts == []
    assert "rank 1 was killed" in ended.detail


@pytest.mark.slow
def test_micro_batches_run_on_one_rank() -> None:
    _check([PassCase("gpt2_tiny", ranks=1, new_tokens=4), PassCase("vit_tiny", ranks=1)])


@pytest.mark.slow
@pytest.mark.parametrize("on_host", [False, True])
def test_every_model_passes_on_two_ranks(on_host: bool) -> None:
    _check(
        [
            PassCase(
                name,
                micro_batches=1 + number % 2,
                on_host=on_host,
                new_tokens=4 if name in DECODERS else 0,
            )
            for number, name in enumerate(TINY)
        ]
    )


@pytest.mark.slow
def test_decoders_generate_on_four_ranks() -> None:
    _check([PassCase(name, ranks=4, new_tokens=4, on_host=True) for name in DECODERS])


def test_what_no_rank_can_generate_is_refused() -> None:
    built = build_pass(PassCase("t5_tiny"))
    model, schedule = built.example.model, built.schedule
    check_passes_run_on_ranks(model, schedule, InferenceSpec(4, 64, 20, 0), 2)
    with pytest.raises(InvalidInputError, match=r"generated_tokens is 3 .* an encoder.*: 0"):
        check_passes_run_on_ranks(model, schedule, InferenceSpec(4, 64, 20, 3), 2)
    with pytest.raises(InvalidInputError, match=r"world_size is 3; allowed .* multiples of 2"):
        check_passes_run_on_ranks(model, schedule, InferenceSpec(4, 64, 20, 0), 3)
