"""The bench of transfer from the command to its files, with a policy that has learned nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from remora.agents.learned.policy_files import Policy, save_policy
from remora.cli.main import main
from tests.agents.learned.policies import untrained

WORDS = [
    *("bench", "transfer", "policy=policy", "groups=[{name: tiny, env: joint_one_model}]"),
    *("problems=1", "fine_tune_s=0.1", "time_limit_s=0.2", "reference_s=0.2", "out=run"),
    *("practice.problems=1", "practice.validation=1", "practice.epochs=1", "practice.ppo_share=0"),
    "practice.round={samples: 1, polished: 1, evaluations: 5}",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    save_policy(tmp_path / "policy", Policy(untrained()))


@pytest.mark.slow
def test_a_policy_is_judged_before_and_after_practice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(WORDS) == 0
    shown = capsys.readouterr()
    assert "tiny: practising, fine-tuned, seed 0" in shown.err
    assert "Median over the best known" in shown.out
    report = json.loads((tmp_path / "run" / "transfer.json").read_text())
    assert len(report["figures"]) == 11
    assert all(one["infeasible"] == 0 for one in report["figures"])
    # Nothing is left to run, so no worker is started and nobody practises.
    assert main([*WORDS, "resume=true"]) == 0
    assert "practising" not in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "transfer.json").read_text())["rows"] == report["rows"]
    assert main(WORDS) == 2
    assert "which has rows of an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["groups=[rankss]"], "did you mean 'ranks'"),
        (["policy=nowhere"], "nowhere"),
        (["practice.epochs=0"], "practice.epochs is 0; allowed: 1 or more"),
        (["jobs=0"], "jobs is 0, allowed: 1 or more"),
        (["fine_tune=3"], "fine_tune_s"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
