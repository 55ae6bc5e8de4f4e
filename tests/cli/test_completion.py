"""The printed script completes in a real shell."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from remora.cli.main import main

ASK = """
source /dev/stdin <<< "$SCRIPT"
COMP_LINE="$LINE"; COMP_POINT=${#COMP_LINE}
_remora
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    from remora.cli.completion import completion_script

    return completion_script("bash")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("remora opt", {"optimize"}),
        ("remora bench ", {"quality", "fidelity", "peers", "transfer"}),
        ("remora optimize mem", {"memory="}),
        ("remora optimize hardware.state.l", {"hardware.state.link_share="}),
        # Bash has split the word at =, so only what follows is asked for.
        ("remora optimize model=gpt2", {"gpt2", "gpt2_medium", "gpt2_tiny"}),
        ("remora optimize memory=1GiB model=unet_", {"unet_tiny"}),
        ("remora bench quality suite=sm", {"smoke"}),
        ("remora fits largest_batch=", {"true", "false"}),
        ("remora train-agent experiment=policy_", {"policy_fast"}),
        ("remora completion z", {"zsh"}),
        ("remora doctor nothing", set()),
    ],
)
def test_bash_completes(script: str, line: str, wanted: set[str]) -> None:
    answer = subprocess.run(
        ["bash", "-c", ASK],
        env={"SCRIPT": script, "LINE": line, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(answer.stdout.split()) == wanted
    assert not answer.stderr


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "complete -F _remora remora" in capsys.readouterr().out
    assert main(["completion", "zsh"]) == 0
    assert "bashcompinit" in capsys.readouterr().out


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "unknown completion 'fish': allowed: bash, zsh" in capsys.readouterr().err
    assert main(["completion"]) == 2
    assert "completion needs a second word, allowed: bash, zsh" in capsys.readouterr().err
