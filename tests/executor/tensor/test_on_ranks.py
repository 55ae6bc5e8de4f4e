"""Layers shared by real ranks: loss, gradients and peaks against one process.

The quick tests run some of it in ``tests/executor/test_on_ranks.py``.
"""

from __future__ import annotations

import dataclasses

import pytest

from remora.errors import InvalidInputError
from remora.executor.pipeline.limits import check_runs_on_ranks
from remora.schedule.schedule import PipelineKind, Placement
from remora.simulator.records import Verification
from remora.simulator.simulate import simulate
from tests.executor.pipeline.cases import PipelineCase, build, problem_of, run_cases

GRADIENT_TOLERANCE = 1e-5
PEAK_TOLERANCE = 0.03

ALONE = PipelineCase("llama_tiny", PipelineKind.NONE, ranks=1, degree=2)
PIPELINE = PipelineCase("llama_tiny", PipelineKind.ONE_F_ONE_B, degree=2)


def check(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    for case, verdict in zip(cases, verdicts, strict=True):
        assert verdict.failures == (), (case, verdict)
        assert verdict.max_gradient_difference < GRADIENT_TOLERANCE, case


def check_with_peaks(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    check(cases, verdicts)
    for case, verdict in zip(cases, verdicts, strict=True):
        built = build(case)
        predicted = simulate(problem_of(built, case.devices), built.schedule).peak_bytes
        measured = verdict.measurement.peak_by_rank_bytes
        assert measured == pytest.approx(predicted, rel=PEAK_TOLERANCE), case


def run_and_check(cases: list[PipelineCase]) -> None:
    check(cases, run_cases(cases))


@pytest.mark.slow
def test_two_ranks_share_layers() -> None:
    """Plain, and with a random plan of recomputation, offload and groups."""
    cases = [ALONE, dataclasses.replace(ALONE, memory_seed=1)]
    check_with_peaks(cases, run_cases(cases))


@pytest.mark.slow
def test_more_models_and_states_on_two_ranks() -> None:
    cases = [
        dataclasses.replace(ALONE, model="qwen3_tiny", memory_seed=2),
        dataclasses.replace(ALONE, model="vit_tiny", memory_seed=3),
        dataclasses.replace(ALONE, optimizer=Placement.HOST, memory_seed=4),
    ]
    run_and_check(cases)


@pytest.mark.slow
def test_more_pipelines_and_states_on_four_ranks() -> None:
    replicas = dataclasses.replace(ALONE, replicas=2)
    cases = [
        PIPELINE,
        dataclasses.replace(PIPELINE, kind=PipelineKind.ZERO_BUBBLE, memory_seed=4),
        *(dataclasses.replace(replicas, zero_stage=stage, memory_seed=2) for stage in (0, 1)),
        dataclasses.replace(replicas, zero_stage=3),
        dataclasses.replace(replicas, optimizer=Placement.HOST),
    ]
    run_and_check(cases)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in PipelineKind if k is not PipelineKind.NONE])
@pytest.mark.parametrize("model", ["llama_tiny", "qwen3_tiny", "vit_tiny"])
def test_every_kind_runs_with_shared_layers(kind: PipelineKind, model: str) -> None:
    run_and_check([PipelineCase(model, kind, degree=2, memory_seed=seed) for seed in (None, 5)])


@pytest.mark.slow
def test_four_ranks_share_layers() -> None:
    run_and_check([PipelineCase("vit_tiny", PipelineKind.NONE, ranks=1, degree=4, memory_seed=6)])


def test_dropout_inside_of_cut_layers_is_refused() -> None:
    built = build(dataclasses.replace(ALONE, model="bert_tiny"))
    with pytest.raises(InvalidInputError, match=r"tensor.degree is 2 and unit .* allowed where"):
        check_runs_on_ranks(built.example.model, built.graph, built.schedule, 2)


def test_ranks_that_do_not_fit_are_refused() -> None:
    built = build(PIPELINE)
    with pytest.raises(InvalidInputError, match=r"world_size is 6; allowed .* multiples of 4"):
        check_runs_on_ranks(built.example.model, built.graph, built.schedule, 6)
