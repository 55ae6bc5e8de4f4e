"""Tables that hold the likely pipelines only: fewer, among them good ones, and plans still fit."""

from __future__ import annotations

import numpy as np
import pytest

from remora.envs.actions import KINDS
from remora.envs.batch import EpisodeBatch
from remora.envs.pipeline_tables import PipelineShape
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.simulator.compiled import simulator_of
from remora.simulator.likely import likely_step_s
from tests.envs.pipeline_problems import pipelines_of
from tests.envs.problems import SIZE, random_action


def _focused(name: str, share: float) -> tuple[ProblemTables, ProblemTables, int]:
    """All tables of a problem, those for one budget, and that budget."""
    whole = pipelines_of(name, 4)
    budget_bytes = whole.budget_bytes(share)
    return whole, ProblemTables(name, whole.problem, focus_bytes=budget_bytes), budget_bytes


def _key(shape: PipelineShape) -> tuple[int, int, int]:
    return shape.num_ranks, shape.kind, shape.count


@pytest.mark.parametrize("name", ["toy", "unet_tiny"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_likeliest_of_all_pipelines_are_kept(name: str, share: float) -> None:
    whole, focused, budget_bytes = _focused(name, share)
    likely = sorted(whole.shapes, key=lambda s: likely_step_s(*s.ends, float(budget_bytes)))
    kept = {_key(shape) for shape in focused.shapes}
    assert {_key(shape) for shape in likely[:8]} <= kept
    assert len(kept) <= 10 < len(whole.shapes)


def test_an_action_means_the_same_as_with_all_pipelines() -> None:
    whole, focused, budget_bytes = _focused("toy", 0.3)
    assert focused.micro_batches == whole.micro_batches
    for tables in (whole, focused):
        batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
        batch.begin(0, 0, budget_bytes)
        best = min(focused.shapes, key=lambda s: likely_step_s(*s.ends, float(budget_bytes)))
        for action in (tables.problem.pipeline_sizes.index(best.num_ranks), best.kind, best.count):
            batch.step(np.array([action]))
        setting = batch.setting(0)
        assert KINDS[setting.kind] == KINDS[best.kind]
        assert setting.micro_batches == whole.micro_batches[best.count]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_plans_of_the_likely_pipelines_fit(share: float) -> None:
    _, focused, budget_bytes = _focused("toy", share)
    budget_bytes = max(budget_bytes, focused.least_bytes)
    generator = np.random.default_rng(0)
    for _ in range(4):
        batch = EpisodeBatch(JointSampler([focused]), 1, SIZE)
        batch.begin(0, 0, budget_bytes)
        while batch.masks.any():
            batch.step(np.array([random_action(batch, generator)]))
        figures = simulator_of(focused.problem).figures(batch.schedule(0))
        assert figures.max_peak_bytes <= budget_bytes
