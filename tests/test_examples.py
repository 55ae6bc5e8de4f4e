"""The examples run as their own docstrings say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples import own_model


def test_own_model_is_planned_verified_saved_and_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_model.main(tmp_path)
    assert "verified: True" in capsys.readouterr().out
    assert json.loads((tmp_path / "schedule.json").read_text())["version"] == 1
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
