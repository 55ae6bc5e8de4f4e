"""Processes of a campaign that die, hang or run out of memory, and disks that are full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_campaign.__main__ import main
from benchmarks.gpu_campaign.campaign import run_campaign
from benchmarks.gpu_campaign.journal import Record
from benchmarks.gpu_campaign.part_process import PartState, run_part
from benchmarks.gpu_campaign.parts import TINY, Part, parts_of
from benchmarks.gpu_campaign.results import Results
from remora.errors import FileFormatError, InvalidInputError, UnknownNameError
from tests.benchmarks.commands import ROOT, check_files
from tests.benchmarks.toy_models import LARGEST_BATCH

ABOUT = {
    "command": "a test",
    "date": "2026-11-28",
    "device": "cpu test",
    "torch": "2",
    "cuda": "",
    "python": "3",
    "seconds": 0.0,
}


def toy_part(folder: Path, fault: str, section: str, batch: int = 4, **values: Any) -> Part:
    values = {"limit_s": 100.0, "least_s": 1.0, **values}
    return Part(
        name=f"toy: {fault}",
        model="toy",
        target="tests.benchmarks.toy_models:toy",
        values={"batch": batch, "fault": fault, "marker": str(folder / f"{fault}.marker")},
        sections=(section,),
        library="torch",
        **values,
    )


@pytest.fixture
def _own_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMORA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("_own_measurements")
def test_a_process_that_dies_is_a_fault_and_the_rest_is_found_out(tmp_path: Path) -> None:
    state = PartState()
    run_part(toy_part(tmp_path, "abort", "gradients"), state, "cpu", 120.0, [])
    assert state.status == "done"
    assert [record.status for record in state.records] == ["crashed", "ok", "ok", "ok"]
    assert "SIGABRT" in state.records[0].detail
    assert state.records[0].label == "recompute all"
    assert len({record.label for record in state.records}) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("_own_measurements")
def test_a_process_that_hangs_is_ended_and_the_rest_is_found_out(tmp_path: Path) -> None:
    state = PartState()
    part = toy_part(tmp_path, "hang", "gradients", limit_s=30.0)
    run_part(part, state, "cpu", 300.0, [])
    assert state.status == "done"
    assert [record.status for record in state.records] == ["timed_out", "ok", "ok", "ok"]


@pytest.mark.slow
@pytest.mark.usefixtures("_own_measurements")
def test_lack_of_memory_is_a_fault_and_half_the_batch_is_tried(tmp_path: Path) -> None:
    state = PartState()
    part = toy_part(tmp_path, "memory", "overlap", batch=2 * LARGEST_BATCH)
    run_part(part, state, "cpu", 120.0, [])
    assert state.status == "done"
    assert state.records[0].status == "out_of_memory"
    assert state.batch == LARGEST_BATCH
    later = [record for record in state.records if record.batch == LARGEST_BATCH]
    assert "keep all" in {record.label for record in later}
    assert {record.status for record in later} == {"ok"}


@pytest.mark.usefixtures("_own_measurements")
def test_a_model_that_cannot_be_asked_for_is_skipped(tmp_path: Path) -> None:
    part = toy_part(tmp_path, "none", "gradients")
    absent = Part(**{**vars(part), "library": "no_such_package"})
    state = PartState()
    run_part(absent, state, "cpu", 100.0, [])
    assert state.status == "skipped"
    assert "'no_such_package' is not installed" in state.detail


def test_parts_without_time_are_named(tmp_path: Path) -> None:
    results = Results(tmp_path, dict(ABOUT))
    parts = parts_of(TINY, ["unet", "gpt2"])
    left = run_campaign(parts, results, "cpu", seconds=0.1)
    assert left == tuple(part.name for part in parts)
    again = Results(tmp_path, dict(ABOUT))
    assert {state.status for state in again.parts.values()} == {"waiting"}
    assert set(again.parts) == set(left)


def test_results_survive_a_full_disk(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A disk of its own would need rights; to the writer a limit on files looks the same.
    script = f"""
import resource, sys
from pathlib import Path
from benchmarks.gpu_campaign.journal import Record
from remora.errors import UsageError
from benchmarks.gpu_campaign.results import Results

about = {ABOUT!r}
results = Results(Path({str(out)!r}), about)
state = results.state("a part")
state.records.append(Record("prediction", "small", 1))
results.dataset.add("steps", [dict(part="a", section="b", label="small", batch=1)])
results.save()
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
state.records.append(Record("prediction", "large", 1, detail="x" * 20000))
results.dataset.add("steps", [dict(part="a", section="b", label="large", batch=1,
                                   schedule_json=str(list(range(9000))))])
for _ in range(2):
    try:
        results.save()
    except (OSError, UsageError) as error:
        print("refused:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("refused:") == done.stdout.count("File too large") == 2
    check_files(out)
    again = Results(out, dict(ABOUT))
    assert [record.label for record in again.parts["a part"].records] == ["small"]
    assert again.dataset.count("steps") == 1


def test_a_folder_that_cannot_be_written_to_ends_the_command(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from benchmarks.gpu_campaign.__main__ import main

resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sys.exit(main(["out={tmp_path / "out"}", "device=cpu", "models=unet"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert "could not be written: " in done.stderr
    check_files(tmp_path / "out")


def test_results_of_another_device_are_not_mixed(tmp_path: Path) -> None:
    Results(tmp_path, dict(ABOUT)).save()
    with pytest.raises(InvalidInputError, match="holds results of 'cpu test'"):
        Results(tmp_path, {**ABOUT, "device": "another"})


def test_files_that_are_no_results_are_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"results\.json"):
        Results(tmp_path, dict(ABOUT))
    (tmp_path / "results.json").unlink()
    (tmp_path / "steps.parquet").write_text("no table")
    with pytest.raises(FileFormatError, match=r"steps\.parquet"):
        Results(tmp_path, dict(ABOUT))


def test_a_later_row_replaces_an_earlier_one(tmp_path: Path) -> None:
    row = {"part": "a", "section": "b", "label": "c", "batch": 1}
    first = Results(tmp_path, dict(ABOUT))
    first.dataset.add("steps", [{**row, "step_time_s": 1.0}, {**row, "label": "d"}])
    first.save()
    second = Results(tmp_path, dict(ABOUT))
    second.dataset.add("steps", [{**row, "step_time_s": 2.0}])
    second.save()
    assert Results(tmp_path, dict(ABOUT)).dataset.count("steps") == 2


def test_states_come_back_as_they_were() -> None:
    state = PartState("partial", "why", 4, 2, 1.5, ["gradients"], [Record("a", "b", 4, "crashed")])
    assert PartState.of(state.values()) == state
    assert [record.label for record in state.faults] == ["b"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("minutes=0", "minutes is '0'; allowed: a number above 0"),
        ("minutes=soon", "minutes is 'soon'"),
        ("device=gpu", "unknown device 'gpu'"),
        ("hours=1", "unknown argument 'hours=1'"),
    ],
)
def test_wrong_usage_ends_with_a_sentence(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gpt2'"):
        parts_of(TINY, ["gpt3"])
    with pytest.raises(UnknownNameError, match="unknown sizes 'small'"):
        parts_of("small")
