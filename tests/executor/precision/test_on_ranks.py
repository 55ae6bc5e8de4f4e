"""Units in fewer bits in pipelines: near one plain process, with peaks as predicted."""

from __future__ import annotations

import pytest

from remora.errors import InvalidInputError
from remora.executor.pipeline.limits import check_runs_on_ranks
from remora.schedule.schedule import PipelineKind, TensorPlan
from remora.simulator.simulate import simulate
from tests.executor.pipeline.cases import PipelineCase, build, problem_of, run_cases
from tests.low_bit import BF16


@pytest.mark.parametrize(
    "case",
    [
        PipelineCase("llama_tiny", PipelineKind.ONE_F_ONE_B, precision=BF16, memory_seed=1),
        pytest.param(
            PipelineCase("bert_tiny", PipelineKind.ZERO_BUBBLE, precision=BF16),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_ranks_come_near_one_plain_process(case: PipelineCase) -> None:
    (verdict,) = run_cases([case])
    errors = verdict.precision
    assert verdict.failures == ()
    assert errors is not None
    assert 0 < errors.gradients < 0.02
    if case.kind is PipelineKind.ZERO_BUBBLE:
        return
    built = build(case)
    predicted = simulate(problem_of(built, 2), built.schedule).peak_bytes
    assert verdict.measurement.peak_by_rank_bytes == pytest.approx(predicted, rel=0.03)


def test_shared_layers_in_fewer_bits_are_refused() -> None:
    case = PipelineCase("llama_tiny", PipelineKind.ONE_F_ONE_B, precision=BF16)
    built = build(case)
    object.__setattr__(built.schedule, "tensor", TensorPlan(2))
    with pytest.raises(InvalidInputError, match=r"tensor\.degree is 2 and precision\.units"):
        check_runs_on_ranks(built.example.model, built.graph, built.schedule, 4)
