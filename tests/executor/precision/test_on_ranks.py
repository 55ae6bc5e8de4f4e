"""Units in fewer bits in pipelines: near one plain process, with peaks as predicted.

The quick tests run one in ``tests/executor/test_on_ranks.py``.
"""

from __future__ import annotations

import dataclasses

import pytest

from remora.errors import InvalidInputError
from remora.executor.pipeline.limits import check_runs_on_ranks
from remora.schedule.schedule import PipelineKind, TensorPlan
from remora.simulator.records import Verification
from remora.simulator.simulate import simulate
from tests.executor.pipeline.cases import PipelineCase, build, problem_of, run_cases
from tests.low_bit import BF16

PIPELINE = PipelineCase("llama_tiny", PipelineKind.ONE_F_ONE_B, precision=BF16, memory_seed=1)


def _check(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    for case, verdict in zip(cases, verdicts, strict=True):
        assert verdict.failures == (), (case, verdict)
        assert verdict.precision is not None
        assert 0 < verdict.precision.gradients < 0.02, case


def check_with_peaks(cases: list[PipelineCase], verdicts: list[Verification]) -> None:
    _check(cases, verdicts)
    for case, verdict in zip(cases, verdicts, strict=True):
        built = build(case)
        predicted = simulate(problem_of(built, 2), built.schedule).peak_bytes
        assert verdict.measurement.peak_by_rank_bytes == pytest.approx(predicted, rel=0.03), case


@pytest.mark.slow
def test_two_ranks_come_near_one_plain_process() -> None:
    cases = [PipelineCase("bert_tiny", PipelineKind.ZERO_BUBBLE, precision=BF16)]
    _check(cases, run_cases(cases))


def test_shared_layers_in_fewer_bits_are_refused() -> None:
    built = build(dataclasses.replace(PIPELINE, memory_seed=None))
    object.__setattr__(built.schedule, "tensor", TensorPlan(2))
    with pytest.raises(InvalidInputError, match=r"tensor\.degree is 2 and precision\.units"):
        check_runs_on_ranks(built.example.model, built.graph, built.schedule, 4)
