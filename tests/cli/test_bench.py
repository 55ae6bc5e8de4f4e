from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from remora.cli.main import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The command adds the current folder.
    monkeypatch.setattr("sys.path", list(sys.path))


def test_the_smoke_suite_from_start_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["suite=smoke", "methods=[greedy,floor]", "time_limit_s=60", "out=run"]
    update = ["update_best_known=true", "best_known=known.json"]
    assert main(["bench", "quality", *words, *update]) == 0
    shown = capsys.readouterr()
    assert "Against greedy" in shown.out
    assert "8/8 " in shown.err
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "quality.json",
        "quality.md",
        "rows.jsonl",
    }
    report = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert [one["method"] for one in report["methods"]] == ["greedy", "floor"]
    assert len(report["rows"]) == 8
    assert all(row["feasible"] for row in report["rows"])
    assert min(row["over_best"] for row in report["rows"]) == 1
    assert all(row["over_bound"] >= 1 for row in report["rows"])
    text = (tmp_path / "run" / "quality.md").read_text()
    assert text.startswith("# Suite smoke\n")
    assert "| method | problems | median |" in text
    known = json.loads((tmp_path / "known.json").read_text())["answers"]
    assert set(known) == {row["problem"] for row in report["rows"]}
    # Nothing is left to run, so no worker is started.
    assert main(["bench", "quality", *words, "resume=true"]) == 0
    assert json.loads((tmp_path / "run" / "quality.json").read_text())["rows"] == report["rows"]
    assert main(["bench", "quality", *words]) == 2
    assert "which has rows of an earlier run" in capsys.readouterr().err
