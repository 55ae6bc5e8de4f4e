"""What the README and the documentation show can be typed as it stands."""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

import remora
from docs import draw_pictures
from remora.api.request import check_request
from remora.cli.compose import compose_config
from remora.cli.help import COMMANDS, config_name, family
from remora.cli.main import main
from remora.cli.request import make_request, model_source, plain
from remora.cli.schema import SCHEMAS
from tests.documentation import (
    ROOT,
    Block,
    blocks,
    command_lines,
    inline_commands,
    pages,
)

WIDTH, BATCH = 64, 512
PYTHON_PAGES = [path for path in pages() if any(b.language == "python" for b in blocks(path))]
RUN = [
    # Verifying starts processes that import PyTorch again.
    pytest.param(block, marks=pytest.mark.slow if "verif" in block.text else (), id=block.place)
    for path in pages()
    for block in blocks(path)
    if block.marker == "run"
]


class Toy(nn.Module):
    """The model of somebody who reads the pages."""

    def __init__(self) -> None:
        super().__init__()
        steps = (nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(6))
        self.blocks = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:  # [BATCH, WIDTH]
        return self.blocks(x)


def _train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> None:
    model(batch).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def _names() -> dict[str, Any]:
    """What pages take as given."""
    batch = torch.zeros(BATCH, WIDTH)
    return {
        "remora": remora,
        "torch": torch,
        "model": Toy(),
        "example_inputs": (batch,),
        "batch": batch,
        "loader": [batch] * 2,
        "loss_of": lambda output: output.square().sum(),
        "train": lambda model: model(batch).square().sum().backward(),
        "train_step": _train_step,
        "profiled_runs": ROOT / "benchmarks" / "profiled_runs",
    }


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own folder, and searches that take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    quick = functools.partial(remora.optimize, agent="greedy")
    monkeypatch.setattr(remora, "optimize", quick, raising=False)


@pytest.mark.parametrize("path", PYTHON_PAGES, ids=lambda path: path.name)
def test_python_runs(path: Path, tmp_path: Path) -> None:
    names = _names()
    remora.optimize(Toy(), (torch.zeros(BATCH, WIDTH),), "range:0.5").save("run")
    for block in blocks(path):
        if block.language != "python" or block.marker == "not run":
            continue
        if block.marker == "file":
            (tmp_path / block.words).write_text(block.text)
        code = compile("\n" * (block.line) + block.text, str(path), "exec")
        exec(code, names)


def test_reasons_are_given() -> None:
    for path in pages():
        for block in blocks(path):
            assert block.marker != "not run" or len(block.words.split()) > 2, block.place


@pytest.mark.parametrize(("place", "line"), [*command_lines(), *inline_commands()])
def test_command_lines_are_right(place: str, line: str) -> None:
    first, *words = shlex.split(line)
    if first == "remora":
        _check_remora(words)
    elif first == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[0] in targets, place
    elif first == "python":
        path = words[1].replace(".", "/") if words[0] == "-m" else words[0].removesuffix(".py")
        assert (ROOT / f"{path}.py").exists() or (ROOT / path / "__main__.py").exists(), place
    elif first == ".ci/run":
        assert (ROOT / first).exists()
    else:
        assert first in ("pip", "source", "echo", "git", "cd", "pre-commit"), f"{place}: {first}"


def _check_remora(words: list[str]) -> None:
    words = words[: words.index(">")] if ">" in words else words
    count = 2 if family(words[0]) and len(words) > 1 else 1
    command, rest = " ".join(words[:count]), words[count:]
    assert command in COMMANDS or family(command), command
    flags = {word for word in rest if word.startswith("-")}
    assert flags <= {"-m", "-v", "--help"}
    overrides = [word for word in rest if word not in flags]
    if config_name(command) not in SCHEMAS:
        assert not overrides
        return
    if "-m" in flags:
        overrides = [_first_job(word) for word in overrides]
    needed = {"train_cost_model": "dataset", "verify": "schedule", "replan": "schedule"}
    key = needed.get(config_name(command))
    if key and not any(word.startswith(f"{key}=") for word in overrides):
        overrides.append(f"{key}=x")
    if "--help" in flags or not overrides:
        return
    config = compose_config(config_name(command), overrides)
    if command in ("optimize", "fits"):
        _check_plan(config, command)


def _check_plan(config: Any, command: str) -> None:
    """Names and values that only a request knows to be wrong."""
    assert model_source(config.model).target
    if config.memory == "sweep":
        config.memory = None
    if config.cost_model.weights is not None:
        config.cost_model.weights = None
    check_request(make_request(config, plain(config.agent) if command == "optimize" else None))


def _first_job(word: str) -> str:
    """The first of several comma-separated values that stand in no list."""
    key, _, value = word.partition("=")
    return word if value.startswith(("[", "{")) else f"{key}={value.split(',')[0]}"


@pytest.mark.parametrize("block", RUN)
def test_marked_commands_do_what_the_page_says(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in blocks(ROOT / block.page):
        if other.marker == "file":
            (tmp_path / other.words).write_text(other.text)
    for line in block.lines:
        first, *words = shlex.split(line)
        assert first == "remora"
        assert main([*words, *_known(words[0], block.words.split())]) == 0, capsys.readouterr()


def _known(command: str, overrides: list[str]) -> Iterator[str]:
    schema = SCHEMAS.get(config_name(command))
    keys = () if schema is None else tuple(field.name for field in fields(schema))
    return (word for word in overrides if word.partition("=")[0].partition(".")[0] in keys)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    drawn = draw_pictures.main(tmp_path)
    assert {path.name for path in drawn} == {
        path.name for path in draw_pictures.FOLDER.glob("*.svg")
    }
    for path in drawn:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    # These depend on no cost model: the page shows what the code says today.
    for name in ("options.svg", "groups.svg", "pipelines.svg"):
        assert (tmp_path / name).read_text() == (draw_pictures.FOLDER / name).read_text()
