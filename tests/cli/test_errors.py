from __future__ import annotations

from pathlib import Path

import pytest

from remora.cli import compose
from remora.cli.main import main

MODULE = "tests.api.small_models"
PLAN = ["optimize", "model=resnet_tiny", "hardware=rtx3090", "memory=range:0.5"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The command adds the current folder.
    monkeypatch.setattr("sys.path", list(__import__("sys").path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimise"], "unknown command 'optimise': did you mean 'optimize'?"),
        (["model=gpt2"], "the first argument is 'model=gpt2', allowed: optimize"),
        (["optimize", "--fast"], "unknown option '--fast'"),
        (["bench"], "bench needs a second word, allowed: quality"),
        (["bench", "qualty"], "unknown bench 'qualty': did you mean 'quality'?"),
        (["bench", "quality", "suite=smok"], "unknown suite 'smok': did you mean 'smoke'"),
        (["bench", "quality", "methods=[gredy]"], "unknown agent 'gredy': did you mean 'greedy'"),
        (["bench", "quality", "methods=[{name:random,sampels:1}]"], "did you mean 'samples'?"),
        (["bench", "quality", "methods=[]"], "methods is []; allowed: a list such as"),
        (["bench", "quality", "methods=[greedy,greedy]"], "methods names 'greedy' more than once"),
        (["bench", "quality", "seeds=[-1]"], "seeds holds -1; allowed: integers from 0"),
        (["bench", "quality", "time_limit_s=0"], "time_limit_s is 0.0, allowed: seconds above 0"),
        (["bench", "peers", "models=[gtp2]"], "unknown model 'gtp2': did you mean 'gpt2'"),
        (["bench", "quality", "jobs=0"], "jobs is 0, allowed: 1 or more"),
        ([*PLAN, "world_size=0"], "world_size is 0; allowed: 1 or more"),
        ([*PLAN, "micro_batches=0"], "micro_batches is 0; allowed: 1 or more, or none"),
        ([*PLAN, "micro_batches=3"], "micro_batches is 3; allowed: divisors of the batch of 4"),
        ([*PLAN, "world_size=16"], "world_size is 16 and the model has 9 units; allowed"),
        ([*PLAN, "world_size=8"], "world_size is 8 and the numbers of micro-batches are 1, 2, 4"),
        (["doctor", "x=1"], "doctor takes no argument 'x=1'"),
        (["optimize"], "model is missing, allowed: bert_base"),
        (["optimize", "model=gtp2"], "unknown model 'gtp2': did you mean 'gpt2'"),
        ([*PLAN, "hardware=rtx309"], "unknown hardware 'rtx309': did you mean 'rtx3090'"),
        ([*PLAN, "agent=gredy"], "unknown agent 'gredy': did you mean 'greedy'"),
        ([*PLAN, "tracker=wand"], "unknown tracker 'wand': did you mean 'wandb'"),
        ([*PLAN, "memry=1GiB"], "unknown key 'memry': did you mean 'memory'"),
        ([*PLAN, "+memry=1GiB"], "unknown key 'memry': did you mean 'memory'"),
        ([*PLAN, "model.values.batsh=1"], "did you mean 'model.values.batch'"),
        ([*PLAN, "agent.sed=1"], "unknown key 'agent.sed': did you mean 'agent.seed'"),
        ([*PLAN, "+agent.sed=1"], "unknown setting of agent 'best' 'sed': did you mean 'seed'"),
        ([*PLAN, "memory"], "argument 'memory' is not of the form key=value"),
        ([*PLAN, "time_limit_s=soon"], "time_limit_s is 'soon', allowed: a number"),
        ([*PLAN, "time_limit_s=0"], "time_limit_s is 0.0, allowed: seconds above 0"),
        ([*PLAN, "memory=5XB"], "memory is '5XB', allowed: bytes such as"),
        ([*PLAN, "memory=range:1.5"], "memory is 'range:1.5', allowed"),
        ([*PLAN, "optimizer=adamm"], "unknown optimizer 'adamm': did you mean 'adam'"),
        ([*PLAN, "hardware.memory_byte=1"], "did you mean 'hardware.memory_bytes'"),
        ([*PLAN, "hardware.memory_bytes=0"], "hardware.memory_bytes is 0"),
        ([*PLAN, "precision=[int4]"], "precision is 'int4'; allowed on rtx3090: bf16, int8"),
        ([*PLAN, "verify=true"], "hardware is 'rtx3090', allowed with verify=true"),
        ([*PLAN, "memory=sweep", "verify=true"], "allowed with memory=sweep: false"),
        ([*PLAN, "figures=gif"], "figures is 'gif', allowed: png, svg, pdf"),
        ([*PLAN, "model.values.batch=none"], "model resnet_tiny"),
        (["optimize", "model=custom"], "model.target is missing, allowed: package.module"),
        (["optimize", "model=custom", "model.target=no.such:thing"], "there is no module 'no'"),
        (["verify"], "schedule is missing"),
        (["verify", "schedule=none.json", "model=resnet_tiny"], "no schedule file none.json"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert message in last
    assert last.startswith("remora: ")
    assert "Traceback" not in error


def test_nothing_fits_ends_with_code_3_and_names_a_budget(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*PLAN, "memory=1KiB"]) == 3
    error = capsys.readouterr().err
    assert "the smallest budget that works" in error
    assert "what takes the memory there: " in error
    assert (
        main(
            ["fits", "model=resnet_tiny", "hardware=rtx3090", "memory=1KiB", "largest_batch=false"]
        )
        == 3
    )
    assert "the smallest budget that works" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "own"),
    [("make_broken", "RuntimeError: "), ("make_nothing", "KeyError: 'no such weights'")],
)
def test_a_broken_model_shows_its_own_error_first(
    function: str, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["model=custom", f"model.target={MODULE}:{function}", "hardware=rtx3090"]
    assert main(["optimize", *arguments]) == 5
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "small_models.py" in error
    assert error.index(own) < error.index("remora: ")


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["model=custom", f"model.target={MODULE}:make_nothing", "hardware=rtx3090"]
    assert main(["optimize", "-v", *arguments]) == 5
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_ends_with_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "run_command", interrupt)
    assert main(PLAN) == 130
    assert capsys.readouterr().err == "remora: interrupted\n"


def test_a_bug_ends_with_code_1_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise IndexError("seven")

    monkeypatch.setattr(compose, "run_command", fail)
    assert main(PLAN) == 1
    assert "this is a bug of Remora: IndexError: seven" in capsys.readouterr().err
