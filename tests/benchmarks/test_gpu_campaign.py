"""The campaign on the CPU, with models of the size of tests."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from remora.cost_models.dataset.dataset import read_dataset
from remora.cost_models.profiled import profiled_costs
from tests.benchmarks.commands import (
    ROOT,
    check_files,
    command,
    environment,
    read_results,
    records_of,
)

MODELS = "models=vit_base,fno2d"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign that ran without the packages that are not needed."""
    folder = tmp_path_factory.mktemp("campaign")
    out = folder / "out"
    done = subprocess.run(
        command(out, MODELS, "minutes=5"),
        cwd=ROOT,
        env=environment(folder, blocked=True),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_everything_is_found_out_without_optional_packages(campaign: Path) -> None:
    part = read_results(campaign)["parts"]["vit_base: core"]
    assert part["status"] == "done"
    assert [r["label"] for r in part["records"] if r["status"] != "ok"] == []
    assert all(r["figures"]["passed"] for r in records_of(part, "gradients").values())
    predicted = records_of(part, "prediction")
    assert len(predicted) >= 5
    for label, record in predicted.items():
        assert label == "costs" or abs(record["figures"]["peak_error"]) < 0.01
    assert "hidden_share" in records_of(part, "overlap")["window 2, distance 1"]["figures"]
    check_files(campaign)


def test_a_model_whose_library_cannot_be_loaded_is_skipped(campaign: Path) -> None:
    part = read_results(campaign)["parts"]["fno2d: core"]
    assert part["status"] == "done"
    assert {record["status"] for record in part["records"]} == {"skipped"}
    assert all("is blocked" in record["detail"] for record in part["records"])


def test_measurements_become_a_dataset(campaign: Path) -> None:
    tables = {
        name: pyarrow.parquet.read_table(campaign / f"{name}.parquet").to_pylist()
        for name in ("graphs", "operators", "steps")
    }
    hashes = {row["graph_hash"] for row in tables["graphs"]}
    assert {row["graph_hash"] for row in tables["operators"]} <= hashes
    for row in tables["steps"]:
        assert row["graph_hash"] in hashes
        assert row["status"] == "ok"
        assert len(row["step_times_s"]) >= 3
        assert min(row["step_times_s"]) <= row["step_time_s"] <= max(row["step_times_s"])
    assert any(row["time_s"] for row in tables["operators"])


def test_the_dataset_joins_profiled_runs(campaign: Path) -> None:
    dataset = read_dataset(campaign)
    assert dataset.faults == ()
    (run,) = dataset.runs
    assert (run.subject.family, run.subject.model) == ("encoder", "vit")
    assert {row.kind for row in run.units} == {unit.kind for unit in run.graph.units}
    assert run.measurements.optimizer_s > 0
    assert len(run.steps) >= 5
    costs = profiled_costs(run.graph, run.setting.hardware, run.measured)
    plain = next(step for step in run.steps if step.label == "keep_all")
    # Far from a prediction: the figures are of the same model in the same units of measure.
    assert 0.1 < sum(costs.op_time_s) / plain.step_time_s < 10


def test_the_report_names_what_was_found(campaign: Path) -> None:
    text = (campaign / "results.md").read_text()
    for title in ("Predicted against measured", "Gradients", "Host copies", "Skipped"):
        assert f"## {title}" in text


def test_what_is_done_is_not_run_again(campaign: Path, tmp_path: Path) -> None:
    before = read_results(campaign)["parts"]
    done = subprocess.run(
        command(campaign, MODELS, "minutes=5"),
        cwd=ROOT,
        env=environment(tmp_path, blocked=False),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "are left" not in done.stderr
    assert read_results(campaign)["parts"] == before
    check_files(campaign)


def test_an_interruption_keeps_what_was_found_until_then(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        command(out, "models=unet", "minutes=5"),
        cwd=ROOT,
        env=environment(tmp_path, blocked=False),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _wait_for_first_item(tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    part = read_results(out)["parts"]["unet: core"]
    assert part["status"] == "partial"
    assert part["records"][0]["label"] == "recompute all"
    assert part["records"][0]["status"] == "ok"
    assert not [record for record in part["records"] if record["status"] == "crashed"]
    check_files(out)
    assert _processes_in(tmp_path) == []


def _wait_for_first_item(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s and process.poll() is None:
        for journal in folder.glob("remora-campaign-*/journal.jsonl"):
            if '["end"' in journal.read_text():
                return
        time.sleep(0.05)
    raise AssertionError("the campaign found nothing out")


def _processes_in(folder: Path) -> list[int]:
    """Processes that run with temporary files in ``folder``."""
    entry = f"TMPDIR={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if entry in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_sections_run_and_an_interrupted_campaign_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = command(out, "models=gpt2,resnet50", "minutes=10")
    surroundings = environment(tmp_path, blocked=True)
    with subprocess.Popen(words, cwd=ROOT, env=surroundings, text=True) as process:
        _wait_for_first_item(tmp_path, process)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    first = read_results(out)["parts"]["gpt2: core"]["records"]
    subprocess.run(words, cwd=ROOT, env=surroundings, check=True)
    parts = read_results(out)["parts"]
    assert parts["gpt2: core"]["records"][: len(first)] == first
    assert {part["status"] for part in parts.values()} == {"done"}
    faults = [r for part in parts.values() for r in part["records"] if r["status"] == "crashed"]
    assert faults == []
    batches = records_of(parts["gpt2: largest batch"], "largest_batch")
    fitting = {
        way: max(
            record["figures"]["batch"]
            for label, record in batches.items()
            if label.startswith(way) and record["figures"].get("within")
        )
        for way in ("plain", "planned")
    }
    assert fitting["planned"] > fitting["plain"]
    ours = records_of(parts["gpt2: alternatives"], "alternatives")
    assert ours["ours at checkpoint every block"]["figures"]["peak_over_theirs"] <= 1.01
    shares = records_of(parts["resnet50: protocol"], "protocol")
    share = shares["0.665 all levers"]["figures"]
    assert share["measured_share"] <= share["asked_share"] * 1.01


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_cuda_runs_every_section(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = command(out, "models=gpt2,resnet50", "minutes=8", "sizes=tiny", "device=cuda")
    subprocess.run(words, cwd=ROOT, env=environment(tmp_path, blocked=True), check=True)
    parts = read_results(out)["parts"]
    assert {part["status"] for part in parts.values()} == {"done"}
    faults = [
        record
        for part in parts.values()
        for record in part["records"]
        if record["status"] not in ("ok", "skipped")
    ]
    assert faults == []
