from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from remora import __version__
from remora.cli.help import COMMANDS, config_name
from remora.cli.main import main
from remora.cli.schema import SCHEMAS


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_names_its_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {key} " in text for key in COMMANDS[name].keys)


def test_the_help_lists_exactly_the_keys_of_the_schema() -> None:
    described = {config_name(name): set(command.keys) for name, command in COMMANDS.items()}
    for name, schema in SCHEMAS.items():
        assert described[name] == {field.name for field in fields(schema)}


def test_the_first_word_of_a_family_shows_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    assert "remora bench quality: " in capsys.readouterr().out


def test_the_public_keys_of_optimize_stay_as_they_are() -> None:
    assert sorted(COMMANDS["optimize"].keys) == [
        "agent",
        "cost_model",
        "dataset",
        "figures",
        "generated_tokens",
        "global_batch",
        "hardware",
        "memory",
        "micro_batches",
        "mode",
        "model",
        "move_state",
        "optimizer",
        "out",
        "precision",
        "prompt_tokens",
        "rounds",
        "tensor_degree",
        "time_limit_s",
        "top_k",
        "tracker",
        "units",
        "verify",
        "verify_time_limit_s",
        "world_size",
    ]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from remora.cli.main import main; main(['--help']); "
        "sys.exit(bool({'torch', 'hydra', 'numpy', 'rich', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_command_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"remora {__version__}\n"
