"""Wrong inputs end at once, with one sentence and the right exit code, and lose nothing.

Kinds that test_errors.py has are not repeated here.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remora.cli.main import main
from tests.api.small_models import small_plan

PLAN = ("optimize", "model=resnet_tiny", "hardware=rtx3090", "memory=range:0.5", "agent=greedy")
OWN = ("optimize", "model=custom", "hardware=rtx3090", "agent=greedy")
TRAIN = ("train-agent", "experiment=policy_fast", "tracker=none")
COSTS = ("train-cost-model", "tracker=none")
MEASURE = ("profile", "model=resnet_tiny", "family=convnet")
OWN_MODELS = """
import sys
import torch
from torch import nn

def whole(width: int = 4):
    return nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 4)), (torch.zeros(4, width),)

def alone(): return nn.Linear(2, 2)
def text(): return nn.Linear(2, 2), "x"
def wrong_shape(): return nn.Linear(2, 2), (torch.zeros(1, 3),)
def frozen(): return nn.Linear(2, 2).requires_grad_(False), (torch.zeros(4, 2),)
def loss_of_many(): return nn.Linear(2, 2), (torch.zeros(4, 2),), lambda output: output
def leaves(): sys.exit(3)
"""


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cut": ("schedule.json", lambda path: path.write_text(path.read_text()[:60])),
    "list": ("schedule.json", lambda path: path.write_text("[]")),
    "other": ("schedule.json", lambda path: _change(path, graph_hash="0" * 16)),
    "bytes": ("estimate.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "garbled": ("estimate.json", lambda path: _change(path, budget_bytes="plenty")),
    "code": ("estimate.json", lambda path: _change(path, model={"_target_": "os.system"})),
    "newer": ("problem.json", lambda path: _change(path, version=77)),
    "lost": ("problem.json", lambda path: path.unlink()),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    small_plan().save(folder / "run")
    for name, (file, damage) in DAMAGES.items():
        shutil.copytree(folder / "run", folder / name)
        damage(folder / name / file)
    (folder / "empty").mkdir()
    (folder / "file").write_text("hello\n")
    (folder / "own_models_of_test.py").write_text(OWN_MODELS)
    (folder / "broken_syntax.py").write_text("def f(:\n")
    (folder / "broken_import.py").write_text("raise KeyError('at import')\n")
    return folder


@pytest.fixture(autouse=True)
def _there(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inputs)
    # The command adds the current folder.
    monkeypatch.setattr("sys.path", list(sys.path))


def _own(function: str, *rest: str) -> tuple[str, ...]:
    return (*OWN, f"model.target=own_models_of_test:{function}", *rest)


CASES: tuple[tuple[int, tuple[str, ...], str], ...] = (
    # Arguments that are no key=value, or a value of another kind.
    (2, (*PLAN, "=3"), "argument '=3' names no key, allowed: key=value"),
    (2, (*PLAN, "~memory"), "argument '~memory' removes a key, allowed: key=value"),
    (2, (*PLAN, "a=b=c"), "argument 'a=b=c' is not of the form key=value"),
    (2, (*PLAN, "memory=1GiB,2GiB"), "memory is '1GiB,2GiB', allowed without -m: one value"),
    (2, (*PLAN, "world_size=two"), "world_size is 'two', allowed: a whole number"),
    (2, (*PLAN, "world_size=1.5"), "world_size is '1.5', allowed: a whole number"),
    (2, (*PLAN, "verify=maybe"), "verify is 'maybe', allowed: true or false"),
    (2, (*PLAN, "units=3"), "units is '3', allowed: a list such as [a,b]"),
    (2, (*PLAN, "units=[]"), "units is [], allowed: module paths"),
    (2, (*PLAN, "model.values=3"), "model.values is '3', allowed: single values"),
    (2, (*PLAN, "hardware=3"), "unknown hardware '3': allowed: 4xa100"),
    (2, (*PLAN, "hardware=[a]"), "unknown hardware 'a': allowed: 4xa100"),
    (2, (*PLAN, "hardware=../x"), "unknown hardware '../x': allowed: 4xa100"),
    (2, ("fits", "model=resnet_tiny", "agent=best"), "unknown key 'agent': allowed: cost_model,"),
    # Numbers that mean nothing.
    (2, (*PLAN, "memory=-1GiB"), "memory is '-1GiB', allowed: bytes such as"),
    (2, (*PLAN, "memory=NaN"), "memory is nan, allowed: bytes such as"),
    (2, (*PLAN, "memory=[1,2]"), "memory is [1, 2], allowed: bytes such as"),
    (2, (*PLAN, "time_limit_s=nan"), "time_limit_s is nan, allowed: seconds above 0"),
    (2, (*PLAN, "world_size=-1"), "world_size is -1; allowed: 1 or more"),
    (2, (*PLAN, "tensor_degree=3"), "degree is 3 with world_size=1 on nodes of 1; allowed: 1"),
    (2, (*PLAN, "rounds=0"), "rounds is 0, allowed: 1 or more"),
    (2, (*PLAN, "model.values.batch=0"), "batch is 0; allowed: whole numbers from 1"),
    (2, (*PLAN, "model.values.batch=-2"), "batch is -2; allowed: whole numbers from 1"),
    (2, (*PLAN, "model.values.batch=many"), "batch is 'many'; allowed: whole numbers from 1"),
    (2, (*PLAN, "model.values.classes=1.5"), "classes is 1.5; allowed: whole numbers from"),
    (2, (*PLAN, "agent=annealing", "agent.seed=x"), "agent.seed is 'x'; allowed: a whole number"),
    (2, (*PLAN, "agent=annealing", "agent.seed=-1"), "agent.seed is -1; allowed: whole numbers"),
    (2, (*PLAN, "hardware.kernel_launch_s=-1"), "hardware.kernel_launch_s is -1.0, allowed"),
    (2, (*PLAN, "hardware.host_pool=pined"), "hardware.host_pool is 'pined', allowed: pinned"),
    (2, (*PLAN, "hardware.state.free_memory=200%"), "free_memory is '200%', allowed: bytes"),
    (2, (*PLAN, "hardware.state.link_share=0"), "link_share is 0.0, allowed: a number above 0"),
    # Names and values that do not go together.
    (2, (*PLAN, "mode=infer"), "mode is 'infer'; allowed: 'train', 'inference'"),
    (2, (*PLAN, "prompt_tokens=5"), "prompt_tokens is 5 with mode='train'; allowed: none"),
    (2, (*PLAN, "agent=stream_all"), "agent is 'stream_all' and mode is 'train'"),
    (2, (*PLAN, "agent=milp", "world_size=2"), "scheduler 'milp' plans one device; allowed: 1"),
    (2, (*PLAN, "cost_model=profiled"), "cost_model is 'profiled', allowed for hardware that is"),
    (2, (*PLAN, "rounds=2"), "cost_model is 'auto', allowed with several rounds: gnn"),
    (2, (*PLAN, "units=[head]"), "units names 'head', which the forward did not call; allowed:"),
    # Folders and files.
    (2, (*PLAN, "out="), "out is '', allowed: a folder that can be written"),
    (2, (*PLAN, "out=file"), "out is 'file', allowed: a folder that can be written, and"),
    (2, (*PLAN, "out=file/deeper"), "out is 'file/deeper', allowed: a folder that can be"),
    (2, (*PLAN, "out=file", "-m"), "out is 'file', allowed: a folder that can be written"),
    (2, (*PLAN, "cost_model=gnn", "cost_model.weights=empty"), "weights is 'empty', where there"),
    (2, (*PLAN, "agent=learned", "agent.policy=nowhere"), "agent.policy is 'nowhere'; allowed: a"),
    (
        2,
        (*PLAN, "agent=learned", "agent.pass_policy=none"),
        "agent.pass_policy is 'none'; allowed: ",
    ),
    (
        2,
        (*PLAN, "agent=learned", "agent.policy=passes"),
        "agent.policy is 'passes', which has lear",
    ),
    (2, (*PLAN, "agent=best", "agent.members=[nowhere]"), "unknown member of agent 'best' 'nowhe"),
    (
        2,
        (*PLAN, "agent=best", "agent.members=greedy"),
        "agent.members is 'greedy'; allowed: a",
    ),
    (2, (*PLAN, "agent=best", "agent.members=[5]"), "agent.members is [5]; allowed: a list of"),
    (2, ("fits", "model=resnet_tiny", "mode=infer"), "mode is 'infer'; allowed: 'train', 'infer"),
    (2, ("replan", "schedule=nowhere"), "there is no estimate file nowhere/estimate.json"),
    (2, ("replan", "schedule=file"), "the estimate file file/estimate.json cannot be read"),
    (2, ("replan", "schedule=cut"), "cut/schedule.json: schedule is cut short or not JSON"),
    (2, ("replan", "schedule=list"), "list/schedule.json: schedule is not a JSON object"),
    (2, ("replan", "schedule=other"), "other/schedule.json: schedule was made for another model"),
    (2, ("replan", "schedule=bytes"), "the estimate file bytes/estimate.json cannot be read"),
    (2, ("replan", "schedule=garbled"), "garbled/estimate.json lacks or garbles a field"),
    (2, ("replan", "schedule=code"), "code/estimate.json"),
    (2, ("replan", "schedule=newer"), "problem.json has version 77; this Remora reads version 1"),
    (2, ("replan", "schedule=lost"), "there is no problem file lost/problem.json"),
    (2, ("replan", "schedule=run", "scope=some"), "scope is 'some', allowed: options, all"),
    (2, ("replan", "schedule=run", "hardware=h200"), "hardware takes no name here, allowed:"),
    (3, ("replan", "schedule=run", "memory=1KiB"), "the smallest budget that works"),
    # Models of one's own.
    (2, (*OWN, "model.target=own_models_of_test"), "is not of the form package.module:function"),
    (2, _own("missing"), "own_models_of_test has no function 'missing'"),
    (2, _own("alone"), "must return (model, example_inputs) or (model, example_inputs, loss), not"),
    (2, _own("text"), "example_inputs is of type str, not a dict of keyword arguments or a tuple"),
    (2, _own("whole", "model.values.widht=8"), "takes no value 'widht': did you mean 'width'?"),
    (2, _own("whole", "model.values.width=x"), "width is 'x'; allowed: whole numbers from 0"),
    (5, (*OWN, "model.target=broken_syntax:f"), "broken_syntax:f failed: SyntaxError"),
    (5, (*OWN, "model.target=broken_import:f"), "broken_import:f failed: KeyError: 'at import'"),
    (5, _own("leaves"), "own_models_of_test:leaves failed: SystemExit: 3"),
    (5, _own("wrong_shape"), "the model failed on the example batch in module"),
    (5, _own("frozen"), "does not require grad"),
    (5, _own("loss_of_many"), "the loss is not a tensor with one element; allowed: a scalar"),
    # Trainings, measurements and comparisons.
    (2, (*TRAIN, "lookahead.count=0"), "lookahead.count is 0"),
    (2, (*TRAIN, "lookahead.look.together=0"), "lookahead.together is 0"),
    (2, (*TRAIN, "stages=[clonng]"), "unknown stage 'clonng': did you mean 'cloning'?"),
    (2, (*TRAIN, "seed=-1"), "seed is -1; allowed: whole numbers from 0"),
    (2, (*TRAIN, "start=empty"), "start is 'empty', where there is no card.json; allowed:"),
    (2, (*TRAIN, "ppo.learning_rate=-1"), "ppo.learning_rate is -1.0; allowed: more than 0"),
    (2, (*TRAIN, "labels.env=nope"), "unknown env 'nope': allowed: joint"),
    (2, (*COSTS, "dataset=3"), "dataset is 3, allowed: a folder, or several as [a,b]"),
    (2, (*COSTS, "dataset=[]"), "dataset is [], allowed: a folder, or several as [a,b]"),
    (2, (*COSTS, "dataset=nowhere"), "there is no folder of profiled runs nowhere"),
    (2, (*COSTS, "dataset=empty"), "the folder empty has no shard that can be read"),
    (2, ("profile", "batches=[2]"), "batches is [2], allowed without model=: null"),
    (2, (*MEASURE, "batches=[0]"), "batches holds 0, allowed: whole numbers from 1"),
    (2, (*MEASURE, "dtypes=[float33]"), "unknown dtype 'float33': did you mean 'float32'"),
    (2, ("profile", "dataset=file"), "dataset is 'file', allowed: a folder that can be written"),
    (2, ("profile", "subject_time_limit_s=0"), "subject_time_limit_s is 0.0, allowed: seconds"),
    (2, ("profile", "seed=-1"), "seed is -1, allowed: 0 or more"),
    (2, ("profile", "part=2", "parts=2"), "part is 2, allowed with parts=2: 0 to 1"),
    (2, ("bench", "quality", "best_known=nowhere"), "best_known is 'nowhere', allowed: a file"),
    (2, ("bench", "quality", "methods=greedy"), "methods is 'greedy', allowed: a list such as"),
    (2, ("bench", "fidelity", "dataset=nowhere"), "there is no folder of profiled runs nowhere"),
    (2, ("bench", "fidelity", "jobs=0"), "jobs is 0, allowed: 1 or more"),
    (2, ("bench", "transfer", "policy=nowhere"), "unknown pretrained policy 'nowhere'"),
    (2, ("bench", "transfer", "groups=[held]"), "unknown group 'held': did you mean 'held_out'?"),
    (2, ("bench", "transfer", "problems=0"), "problems is 0, allowed: 1 or more"),
    (
        2,
        ("bench", "zzz"),
        "unknown bench 'zzz': allowed: fidelity, peers, quality, transfer",
    ),
)


@pytest.mark.parametrize(
    ("code", "arguments", "sentence"), CASES, ids=[" ".join(case[1]) for case in CASES]
)
def test_a_wrong_input_is_answered_by_one_sentence(
    code: int,
    arguments: tuple[str, ...],
    sentence: str,
    inputs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = _content(inputs)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    said = [line for line in error.splitlines() if line.startswith("remora: ")]
    assert len(said) == 1
    assert sentence in error
    if code != 3:
        assert sentence in said[0]
        assert error.strip().splitlines()[-1] == said[0]
    assert _content(inputs) == before


def test_a_folder_that_cannot_be_written_is_refused_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A file system that holds no files but its own, whatever its permissions say.
    assert main([*PLAN, "out=/proc/new"]) == 2
    said = capsys.readouterr().err
    assert "out is '/proc/new', allowed: a folder that can be written, and /proc cannot be" in said


def test_values_of_an_own_model_need_no_file_that_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("memory=range:0.5", f"out={tmp_path}", "model.values.width=6")
    assert main(_own("whole", *words)) == 0
    assert json.loads((tmp_path / "estimate.json").read_text())["model"]["values"] == {"width": 6}


def _content(folder: Path) -> dict[str, bytes]:
    """Every file that is not a product of importing Python."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }
