"""The examples run as their own docstrings say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from examples import (
    lightning_loop,
    own_model,
    pipeline_on_paper,
    pipeline_serving,
    pipeline_training,
    plain_loop,
    transformers_trainer,
)
from remora.schedule.schedule import SCHEDULE_VERSION


def test_own_model_is_planned_verified_saved_and_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_model.main(tmp_path)
    assert "verified: True" in capsys.readouterr().out
    assert json.loads((tmp_path / "schedule.json").read_text())["version"] == SCHEDULE_VERSION
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


def test_pipelines_are_compared_on_paper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline_on_paper.main(tmp_path)
    printed = capsys.readouterr().out
    assert printed.count(" ms ") == 7
    assert "fastest: " in printed
    assert json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    assert (tmp_path / "timeline.png").stat().st_size > 10_000


def test_a_pipeline_trains_under_torchrun(capfd: pytest.CaptureFixture[str]) -> None:
    pipeline_training.main([])
    printed = capfd.readouterr().out
    assert printed.count("loss ") == pipeline_training.STEPS
    assert "gathered 14 tensors" in printed


def test_a_pipeline_generates_under_torchrun(capfd: pytest.CaptureFixture[str]) -> None:
    pipeline_serving.main([])
    printed = capfd.readouterr().out
    assert "planned: 2 ranks" in printed
    assert "logits (4, 16, 512), tokens (4, 24)" in printed
    assert "equal to one process: True" in printed


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("example", [plain_loop, transformers_trainer, lightning_loop])
def test_loops_lose_nothing_but_memory(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main()
    printed = capsys.readouterr().out
    losses = re.findall(r"loss ([0-9.]+) without, ([0-9.]+) with the plan", printed)
    assert len(losses) == example.STEPS
    assert all(plain == planned for plain, planned in losses)
    before, after = map(int, re.findall(r": (\d+) bytes without, (\d+) with it", printed)[0])
    assert after < 0.6 * before
