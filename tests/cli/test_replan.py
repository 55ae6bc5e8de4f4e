"""``remora replan``: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import remora
from remora.cli.main import main
from tests.api.small_models import small_plan

FILES = {
    "estimate.json",
    "problem.json",
    "report.html",
    "schedule.json",
    "timeline.json",
    "timeline.png",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The command adds the current folder.
    monkeypatch.setattr("sys.path", list(sys.path))
    small_plan().save(tmp_path / "run")


def test_it_says_what_changed_and_writes_a_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = "hardware.state.host_link_share=0.05"
    assert main(["replan", "schedule=run", slow, "out=new"]) == 0
    text = capsys.readouterr().out
    assert "blocks.1" in text
    assert "present plan, now" in text
    assert "host link at 5 % of nominal." in text
    assert "Without it a step would take +" in text
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES
    assert remora.load("new").agent == "replan"
    assert main(["replan", "schedule=new", slow, "out=newer"]) == 0
    assert "The plan stays as it is." in capsys.readouterr().out


def test_it_says_that_the_present_plan_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    small_plan("range:1").save("roomy")
    assert main(["replan", "schedule=roomy", "memory=range:0.5", "out=new"]) == 0
    assert "The present plan no longer fits: it lacks " in capsys.readouterr().out


def test_nothing_fits_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replan", "schedule=run", "memory=1KiB", "out=new"]) == 3
    assert "the smallest budget that works" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_files_of_another_version_are_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / "problem.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    assert main(["replan", "schedule=run", "out=new"]) == 2
    assert "version 99; this Remora reads version 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("hardware.state.host_link_share=1.5", "hardware.state.host_link_share is 1.5, allowed"),
        ("hardware.state.free_memory=99TiB", "hardware.state.free_memory is '99TiB', allowed"),
        ("hardware.state.linkshare=1", "did you mean 'hardware.state.link_share'"),
        ("hardware=local", "hardware takes no name here, allowed: hardware.state.free_memory"),
        ("scope=some", "scope is 'some', allowed: options, all"),
        ("schedule=nowhere", "there is no estimate file nowhere/estimate.json"),
    ],
)
def test_bad_input_is_one_sentence(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replan", "schedule=run", argument]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_optimize_takes_a_state_too(capsys: pytest.CaptureFixture[str]) -> None:
    model = ["model=custom", "model.target=tests.api.small_models:make_stack"]
    state = ["hardware.state.free_memory=1GiB", "hardware.state.host_link_share=0.62"]
    assert main(["optimize", *model, "hardware=rtx3090", "agent=greedy", *state, "out=new"]) == 0
    assert "Planned for 1.00 GiB free of" in capsys.readouterr().out
