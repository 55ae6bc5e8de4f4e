"""Pipelines on real ranks: gradients, parameters, buffers and peaks against one process.

The quick tests run every kind in ``tests/executor/test_on_ranks.py``.
"""

from __future__ import annotations

import dataclasses

import pytest

from remora.schedule.orders import splits_backward
from remora.schedule.schedule import PipelineKind, Placement
from remora.simulator.records import Verification
from remora.simulator.simulate import simulate
from tests.executor.pipeline.cases import PipelineCase, build, problem_of, run_cases
from tests.zoo.model_files import TINY

KINDS = tuple(kind for kind in PipelineKind if kind is not PipelineKind.NONE)
STATISTICS = ("resnet_tiny", "unet_tiny", "climate_unet_tiny")

PEAK_TOLERANCE = 0.03


def _cases_of_all_models() -> list[PipelineCase]:
    """Every model once, every kind at least twice, with and without a memory plan."""
    cases = []
    for number, model in enumerate(TINY):
        kinds = [k for k in KINDS if k is not PipelineKind.CHIMERA or model not in STATISTICS]
        kind = kinds[number % len(kinds)]
        cases.append(PipelineCase(model, kind, memory_seed=number if number % 3 else None))
    return cases


def cases_of_every_kind() -> list[PipelineCase]:
    return list({case.kind: case for case in _cases_of_all_models()}.values())


def check(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    assert len(verdicts) == len(cases)
    for case, verdict in zip(cases, verdicts, strict=True):
        assert verdict.failures == (), (case, verdict)
        assert verdict.max_gradient_difference < 1e-6, case


def _check_peaks(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    for case, verdict in zip(cases, verdicts, strict=True):
        built = build(case)
        predicted = simulate(problem_of(built, case.ranks), built.schedule).peak_bytes
        measured = verdict.measurement.peak_by_rank_bytes
        assert measured == pytest.approx(predicted, rel=PEAK_TOLERANCE), case


def check_with_peaks(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    assert {case.kind for case in cases} == set(KINDS)
    check(cases, verdicts)
    whole = [n for n, case in enumerate(cases) if not splits_backward(case.kind)]
    _check_peaks([cases[n] for n in whole], [verdicts[n] for n in whole])


@pytest.mark.slow
def test_every_model_runs_on_two_ranks() -> None:
    cases = _cases_of_all_models()
    check_with_peaks(cases, run_cases(cases))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt2_tiny", "t5_tiny", "fno2d_tiny"])
def test_every_kind_runs_on_four_ranks(model: str) -> None:
    cases = [PipelineCase(model, kind, ranks=4, memory_seed=n) for n, kind in enumerate(KINDS)]
    check(cases, run_cases(cases))


def _on_replicas(model: str, kind: PipelineKind = PipelineKind.ONE_F_ONE_B) -> list[PipelineCase]:
    first = PipelineCase(model, kind, replicas=2, memory_seed=1)
    return [
        dataclasses.replace(first, zero_stage=zero_stage, optimizer=optimizer)
        for zero_stage in range(4)
        for optimizer in (Placement.DEVICE, Placement.HOST)
        if (zero_stage, optimizer) != (1, Placement.HOST)
    ]


@pytest.mark.slow
def test_state_is_shared_out_over_replicas() -> None:
    cases = [dataclasses.replace(c, ranks=1) for c in _on_replicas("bert_tiny", PipelineKind.NONE)]
    cases = [case for case in cases if case.zero_stage]
    check(cases, run_cases(cases))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt2_tiny", "t5_tiny", "resnet_tiny", "llama_tiny"])
def test_every_state_runs_on_replicas(model: str) -> None:
    cases = _on_replicas(model)
    check(cases, run_cases(cases))


def test_micro_batches_run_on_one_rank() -> None:
    cases = [PipelineCase("gpt2_tiny", PipelineKind.GPIPE, ranks=1, memory_seed=2)]
    check(cases, run_cases(cases))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_runs_under_every_kind(kind: PipelineKind) -> None:
    cases = [
        PipelineCase(model, kind, memory_seed=seed)
        for model in TINY
        for seed in (None, 3, 4)
        if kind is not PipelineKind.CHIMERA or model not in STATISTICS
    ]
    verdicts = run_cases(cases)
    check(cases, verdicts)
    if not splits_backward(kind):
        _check_peaks(cases, verdicts)
