"""Published runs beside the simulator: what is committed, and how it is made, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import published
from benchmarks.recording import RESULTS

TINY = published.Run("tiny on 8", published.Size(4, 64, 8), 2, 2, 2, 16, "nowhere", 1.0)


def test_what_is_committed_has_every_run_within_a_third_of_its_report() -> None:
    rows = json.loads((RESULTS / "published.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [run.name for run in published.RUNS]
    for row, run in zip(rows, published.RUNS, strict=True):
        assert row["reported_s"] == pytest.approx(run.reported_s)
        assert row["paper"]["step_time_s"] == pytest.approx(run.reported_s, rel=1 / 3)
        assert run.devices == run.degree * run.ranks * run.replicas


def test_the_seconds_of_a_count_are_those_of_the_papers_formula() -> None:
    """GPT-3 175B at 153 TFLOP/s on 384 devices, by hand."""
    run = published.RUNS[0]
    layers = 96 * 1536 * 2048 * 96 * 12288**2
    extra = 1 + 2048 / (6 * 12288) + 51200 / (16 * 96 * 12288)
    assert run.reported_s == pytest.approx(layers * extra / (384 * 153e12))


def test_a_run_is_simulated_planned_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(published, "RUNS", (TINY,))
    published.main([f"out={tmp_path}", "plan_s=4"])
    (row,) = json.loads((tmp_path / "published.json").read_text())["rows"]
    assert row["plan"]["step_time_s"] <= row["paper"]["step_time_s"]
    assert row["plan"]["ranks"] * row["plan"]["degree"] * row["plan"]["replicas"] == TINY.devices
    assert "tiny on 8" in capsys.readouterr().out
