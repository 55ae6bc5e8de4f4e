"""Every way to run on ranks, in as few starts as possible: that of a rank outlasts its cases.

What the runs are held to, and more of them, stands in the folders ``pipeline``, ``tensor`` and
``precision``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from remora.schedule.schedule import PipelineKind, Placement
from remora.simulator.records import Verification
from tests.executor.pipeline import test_on_ranks as pipeline
from tests.executor.pipeline.cases import PipelineCase, run_cases
from tests.executor.precision import test_on_ranks as precision
from tests.executor.tensor import test_on_ranks as tensor

Check = Callable[[list[PipelineCase], list[Verification]], None]

REPLICAS = PipelineCase("bert_tiny", PipelineKind.NONE, ranks=1, replicas=2, memory_seed=1)
PIPELINES = PipelineCase("bert_tiny", PipelineKind.ONE_F_ONE_B, replicas=2, memory_seed=1)


def _check_together(parts: list[tuple[Check, list[PipelineCase]]]) -> None:
    """Run the cases of all parts on the same ranks."""
    verdicts = iter(run_cases([case for _, cases in parts for case in cases]))
    for check, cases in parts:
        check(cases, [next(verdicts) for _ in cases])


def test_two_ranks() -> None:
    """Pipelines of every kind, state shared out over replicas, shared layers, fewer bits."""
    states = [
        dataclasses.replace(REPLICAS, zero_stage=1),
        dataclasses.replace(REPLICAS, zero_stage=2, optimizer=Placement.HOST),
    ]
    _check_together(
        [
            (pipeline.check_with_peaks, pipeline.cases_of_every_kind()),
            (pipeline.check, states),
            (tensor.check_with_peaks, [dataclasses.replace(tensor.ALONE, memory_seed=1)]),
            (precision.check_with_peaks, [precision.PIPELINE]),
        ]
    )


def test_four_ranks() -> None:
    """Long pipelines and pipelines beside each other, and both of ranks that share layers."""
    state = {"zero_stage": 3, "optimizer": Placement.HOST}
    sharing = dataclasses.replace(tensor.ALONE, replicas=2, memory_seed=2, zero_stage=2)
    _check_together(
        [
            (
                pipeline.check,
                [
                    PipelineCase("t5_tiny", PipelineKind.CHIMERA, ranks=4, memory_seed=1),
                    dataclasses.replace(PIPELINES, **state),
                ],
            ),
            (tensor.check, [dataclasses.replace(tensor.PIPELINE, memory_seed=1), sharing]),
        ]
    )
