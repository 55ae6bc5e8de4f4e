from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remora.agents.learned.policy_files import Policy, load_policy, save_policy
from remora.api.bench.rows import read_rows
from remora.api.bench.task import Opened, Outcome, Task, run_task
from remora.api.bench.transfer import run as transfer_run
from remora.api.bench.transfer.files import write_transfer
from remora.api.bench.transfer.groups import Group, read_groups
from remora.api.bench.transfer.methods import DECODES
from remora.api.bench.transfer.practice import fresh_network, practice_config, practise
from remora.api.bench.transfer.problems import build_transfer, judged_problems, practice_tables
from remora.api.bench.transfer.request import ROWS_NAME, TransferRequest, policy_folder
from remora.api.bench.transfer.run import TransferResult, run_transfer
from remora.api.bench.transfer.tables import transfer_sections
from remora.api.configs import config_names
from remora.errors import FileFormatError, InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode
from tests.agents.learned.policies import untrained
from tests.api.bench.runs import row

TINY = Group("tiny", env="joint_one_model")
PRACTICE = practice_config(
    {
        "problems": 1,
        "validation": 1,
        "epochs": 1,
        "ppo_share": 0.0,
        "round": {"samples": 1, "polished": 1, "evaluations": 5},
    }
)
PLANNED = {
    f"{policy}, {decode}"
    for policy in ("zero-shot", "fine-tuned", "from scratch")
    for decode in DECODES
}


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run tasks here instead of in worker processes, whose start takes seconds."""

    def run_here(tasks: list[Task], jobs: int) -> Iterator[Opened | Outcome]:
        for task in tasks:
            yield from run_task(task)

    monkeypatch.setattr(transfer_run, "run_in_workers", run_here)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies") / "small"
    save_policy(folder, Policy(untrained(), card={"who": "nobody"}))
    return folder


def request_of(policy: Path, out: Path, *groups: Group, **changes: Any) -> TransferRequest:
    values: dict[str, Any] = {
        "problems": 1,
        "practice": PRACTICE,
        "fine_tune_s": 0.1,
        "time_limit_s": 0.2,
        "reference_s": 0.3,
        **changes,
    }
    return TransferRequest(policy=policy, groups=groups or (TINY,), out=out, **values)


@pytest.mark.usefixtures("_in_process")
def test_every_method_has_a_row_and_a_stopped_bench_goes_on(policy: Path, tmp_path: Path) -> None:
    # Long enough for every method to have an answer on a busy machine.
    request = request_of(policy, tmp_path, time_limit_s=1.0)

    def stop(text: str) -> None:
        if "from scratch, seed" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_transfer(request, stop)
    before, _ = read_rows(tmp_path / ROWS_NAME)
    assert len(before) == len(DECODES) + 2
    with pytest.raises(InvalidInputError, match="which has rows of an earlier run"):
        run_transfer(request)
    told: list[str] = []
    resumed = dataclasses.replace(request, resume=True)
    result = run_transfer(resumed, told.append)
    assert [one for one in told if "practising" in one] == [
        "tiny: practising, from scratch, seed 0"
    ]
    assert {one.method for one in result.rows} == {
        *PLANNED,
        "rank_greedy + local search",
        "reference",
    }
    assert result.rows[: len(before)] == tuple(before)
    assert all(one.feasible for one in result.rows)
    assert [(one.policy, one.fault) for one in result.trainings] == [
        ("fine-tuned", ""),
        ("from scratch", ""),
    ]
    assert all(one.rounds >= 1 and one.seconds > 0 for one in result.trainings)
    tuned = load_policy(tmp_path / "trainings" / "tiny" / "seed_0" / "fine-tuned" / "policy")
    assert tuned.network.size == load_policy(policy).network.size
    _check_files(resumed, result)
    with pytest.raises(FileFormatError, match="another fine_tune_s"):
        run_transfer(dataclasses.replace(resumed, fine_tune_s=0.2))


def _check_files(request: TransferRequest, result: TransferResult) -> None:
    paths = write_transfer(request, result)
    assert [path.name for path in paths] == ["transfer.md", "transfer.json", "rows.jsonl"]
    values = json.loads(paths[1].read_text())
    assert values["policy"] == {"who": "nobody"}
    assert min(one["over_best"] for one in values["rows"]) == 1
    assert {one["group"] for one in values["figures"]} == {"tiny"}
    text = paths[0].read_text()
    for title in ("Median over the best known", "Group tiny", "Practice", "Runs"):
        assert f"## {title}\n" in text


@pytest.mark.usefixtures("_in_process")
def test_a_model_above_the_maximum_of_the_policy_has_rows_that_say_so(tmp_path: Path) -> None:
    small = tmp_path / "policy"
    save_policy(small, Policy(untrained(), max_units=2))
    request = request_of(small, tmp_path / "out")
    result = run_transfer(request)
    notes = {one.method: one.note for one in result.rows}
    assert "allowed for this policy: up to 2" in notes["zero-shot, greedy"]
    assert notes["fine-tuned, greedy"].startswith("no policy was trained: the model has")
    assert notes["rank_greedy + local search"] == ""
    (section,) = [one for one in transfer_sections(result.rows, ()) if one.title == "Group tiny"]
    none = {cells[0]: cells[2] for cells in section.rows}
    assert none["zero-shot, greedy"] == "1"
    assert none["rank_greedy + local search"] == "0"
    # What could not be trained for is tried again, everything else is kept.
    told: list[str] = []
    again = run_transfer(dataclasses.replace(request, resume=True), told.append)
    assert len([one for one in told if "practising" in one]) == 2
    assert len(read_rows(tmp_path / "out" / ROWS_NAME)[0]) == len(result.rows) + 2 * len(DECODES)
    assert [one for one in again.rows if one.note == ""] == [
        one for one in result.rows if one.note == ""
    ]


def test_practice_problems_are_others_than_those_judged_by() -> None:
    judged = [build_transfer(one) for one in judged_problems(TINY, 2)]
    practised = [one.problem for one in practice_tables(TINY, 2, 0)]
    states = [one.hardware.state for one in (*judged, *practised)]
    assert len(set(states)) == len(states)
    assert judged[0].graph.content_hash == practised[0].graph.content_hash


def test_practice_ends_with_a_policy_no_worse_by_its_validation(tmp_path: Path) -> None:
    tables = practice_tables(TINY, 2, 0)
    config = dataclasses.replace(PRACTICE, ppo_share=0.5)
    start = Policy(untrained(), max_units=77)
    # A second passes whenever somebody looks.
    ticks = iter(range(1000))
    result = practise(
        start, tables, config, 1e-3, 12.0, 0, tmp_path, clock=lambda: float(next(ticks))
    )
    assert result.after <= result.before
    assert result.policy.max_units == 77
    assert result.rounds == 1
    assert (tmp_path / "ppo" / "best").is_dir()


def test_fresh_weights_follow_from_the_seed() -> None:
    size = untrained().size
    first, again, other = (fresh_network(size, seed).state_dict() for seed in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_problems_of_a_suite_are_spread_over_it_or_named() -> None:
    group = read_groups([{"name": "s", "suite": "smoke", "env": "joint_one_model"}])[0]
    assert len(judged_problems(group, 2)) == 2
    names = [one.source.name for one in judged_problems(group, 100)]
    assert len(set(names)) == len(names)
    named = dataclasses.replace(group, problems=(names[-1],))
    assert [one.name for one in judged_problems(named, 5)] == [f"s/{names[-1]}"]


def test_the_groups_of_the_package_can_be_read() -> None:
    groups = read_groups(config_names("transfer"))
    assert {group.name for group in groups} == {"held_out", "hardware", "larger", "ranks"}
    assert all(group.config.recipe.models for group in groups)
    assert len({group.seed for group in groups}) == 4


def test_tables_hold_methods_against_each_other_by_group() -> None:
    rows = [
        row("zero-shot, greedy", 1.2, "a/1"),
        row("fine-tuned, greedy", 1.0, "a/1"),
        row("zero-shot, greedy", 3.0, "b/1"),
        row("fine-tuned, greedy", None, "b/1"),
    ]
    sections = {one.title: one for one in transfer_sections(rows, ())}
    assert sections["Median over the best known"].rows == (
        ("zero-shot, greedy", "+20.00 %", "+0.00 %"),
        ("fine-tuned, greedy", "+0.00 %", "-"),
    )
    (against,) = sections["One method against another"].rows
    assert against[:4] == ("a", "fine-tuned, greedy", "zero-shot, greedy", "1")
    assert against[6] == "+20.00 %"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["held_outt"], "did you mean 'held_out'"),
        ([], "groups is"),
        (["larger", "larger"], "more than once"),
        ([{"env": "joint"}], "allowed: names of conf/transfer"),
        ([{"name": "a/b"}], "without '/'"),
        ([{"name": "a", "seeds": 1}], "did you mean 'seed'"),
        ([{"name": "a", "env": "joynt"}], "joint"),
        ([{"name": "a", "problems": ["x"]}], "suite is None"),
        ([{"name": "a", "suite": "smoke", "problems": ["x"]}], "problem of suite 'smoke'"),
        ([{"name": "a", "values": {"devices": {"h300": 1}}}], "h300"),
    ],
)
def test_wrong_groups_are_named(entries: list[Any], message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        read_groups(entries)


@pytest.mark.parametrize(
    "changes",
    [{"fine_tune_s": 0.0}, {"time_limit_s": math.nan}, {"problems": 0}, {"jobs": 0}, {"seeds": ()}],
)
def test_wrong_numbers_are_named(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"{next(iter(changes))} is .*allowed"):
        request_of(tmp_path, tmp_path, **changes)


def test_a_policy_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownNameError, match="nowhere"):
        policy_folder("nowhere")


def test_what_plans_passes_has_no_place_here(tmp_path: Path) -> None:
    save_policy(tmp_path, Policy(untrained(), mode=Mode.INFERENCE))
    with pytest.raises(InvalidInputError, match=r"policy is .*, which has learned mode 'infer"):
        request_of(tmp_path, tmp_path / "out").load()
    with pytest.raises(InvalidInputError, match="env of group 'p' is 'passes', which has passes"):
        Group("p", env="passes")
