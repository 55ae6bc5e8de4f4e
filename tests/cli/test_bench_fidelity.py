"""The bench of cost models from the command to its files, on a few of the committed runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from remora.cli.main import main

RUNS = Path(__file__).parents[2] / "benchmarks" / "profiled_runs"
WORDS = [
    *("bench", "fidelity", "dataset=runs", "families=[spectral]", "seeds=[0]", "out=run"),
    *("held_out_share=0.3", "training.op.epochs=2", "training.op.members=1"),
    *("training.op.width=16", "training.step.epochs=2", "training.step.members=1"),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "runs").mkdir()
    for model in ("fno2d", "unet"):
        for shard in sorted(RUNS.glob(f"{model}-*-r0.parquet"))[:3]:
            (tmp_path / "runs" / shard.name).symlink_to(shard)


@pytest.mark.slow
def test_a_family_is_left_out_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "baseline_seeds=[]"]) == 0
    shown = capsys.readouterr()
    assert "1/1 gnn without spectral" in shown.err
    assert "By left-out family" in shown.out
    report = json.loads((tmp_path / "run" / "fidelity.json").read_text())
    assert [(one["method"], one["side"]) for one in report["figures"]] == [
        ("gnn", "seen"),
        ("gnn", "left_out"),
    ]
    assert all(one["units"] > 0 and one["steps"] > 0 for one in report["figures"])
    text = (tmp_path / "run" / "fidelity.md").read_text()
    assert "| unit time, median error | <= 7 % |" in text
    assert main([*WORDS, "baseline_seeds=[]"]) == 2
    assert "which has judgements of an earlier run" in capsys.readouterr().err


@pytest.mark.slow
def test_all_methods_are_judged_on_the_same_runs(tmp_path: Path) -> None:
    assert main(WORDS) == 0
    figures = json.loads((tmp_path / "run" / "fidelity.json").read_text())["figures"]
    left_out = {one["method"]: one for one in figures if one["side"] == "left_out"}
    assert set(left_out) == {
        *("gnn", "profiled", "roofline", "fitted roofline", "boosted trees"),
        "end-to-end network",
    }
    assert len({one["steps"] for one in left_out.values()}) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["families=[spectrall]"], "did you mean 'spectral'"),
        (["families=[decoder]"], "decoder"),
        (["jobs=0"], "jobs is 0, allowed: 1 or more"),
        (["seeds=[]"], "seeds is empty"),
        (["dataset=nowhere"], "there is no folder of profiled runs nowhere"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, *words]) == 2
    assert message in capsys.readouterr().err
