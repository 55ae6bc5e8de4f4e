from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

import remora
from remora.api.configs import config_names
from remora.cli import compose
from remora.cli.compose import compose_config
from remora.cli.main import main
from remora.cli.schema import SCHEMAS
from remora.cli.train_agent import training_values
from remora.cli.training_schema import (
    CloningSection,
    EmphasisSection,
    EvaluationSection,
    LabelsSection,
    LookaheadSection,
    LookSection,
    NetworkSection,
    PpoSection,
    RoundSection,
    RoundsSection,
    TranslationSection,
)

MODULE = "tests.api.small_models"
STACK = ["model=custom", f"model.target={MODULE}:make_stack"]
FAST = ["hardware=rtx3090", "agent=greedy", "memory=range:0.5"]
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


def test_optimize_writes_its_files_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", "model=resnet_tiny", *FAST, "out=run"]) == 0
    text = capsys.readouterr().out
    assert "greedy *" in text
    assert "No schedule within this budget takes less than" in text
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    plan = remora.load("run")
    assert plan.source is not None
    assert plan.source.name == "resnet_tiny"
    trace = json.loads((tmp_path / "run" / "timeline.json").read_text())
    assert trace["traceEvents"]


def test_optimize_plans_passes_of_inference(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mode=inference", "generated_tokens=16", "hardware=rtx3090", "memory=range:0.3"]
    assert main(["optimize", "model=gpt2_tiny", "agent=stream_fewest", *words, "out=run"]) == 0
    text = capsys.readouterr().out
    assert "pass time" in text
    assert "sequences per second" in text
    assert "wait on the host" in text
    assert remora.load("run").problem.inference is not None


def test_the_default_folder_names_command_and_date(tmp_path: Path) -> None:
    assert main(["optimize", *STACK, *FAST]) == 0
    (folder,) = (tmp_path / "outputs" / "optimize").iterdir()
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_tracker_keeps_the_figures(tmp_path: Path) -> None:
    assert main(["optimize", *STACK, *FAST, "tracker=csv", "out=run"]) == 0
    folder = tmp_path / "run" / "csv"
    assert json.loads((folder / "status.json").read_text()) == {"status": "done"}
    assert "step_time_s" in (folder / "metrics.csv").read_text()
    assert "keep_all" in (folder / "candidates.csv").read_text()


def test_figures_are_written_beside_the_report(tmp_path: Path) -> None:
    assert main(["optimize", *STACK, *FAST, "figures=svg", "out=run"]) == 0
    pictures = {"pipeline.svg", "memory.svg", "units.svg"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | pictures


def test_sweep_prints_a_front_that_does_not_rise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*FAST, "hardware.host_pool=none", "memory=sweep", "figures=svg", "out=run"]
    assert main(["optimize", *STACK, *arguments]) == 0
    points = json.loads((tmp_path / "run" / "pareto.json").read_text())["points"]
    budgets = [point["budget_bytes"] for point in points]
    times = [point["step_time_s"] for point in points]
    assert budgets == sorted(budgets)
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "pareto.json",
        "pareto.png",
        "pareto.svg",
        "report.html",
    }
    assert "budget sweep" in (tmp_path / "run" / "report.html").read_text()
    assert "lower bound" in capsys.readouterr().out


def test_fits_answers_and_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fits", *STACK, "hardware=rtx3090", "memory=2MiB", "out=run"]) == 0
    text = capsys.readouterr().out
    assert "fits as it is" in text
    assert "largest batch: " in text
    answer = json.loads((tmp_path / "run" / "fits.json").read_text())
    assert answer["fits"]
    assert answer["largest_batch"] > answer["largest_batch_keep_all"]


def test_fits_answers_for_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=gpt2_tiny", "mode=inference", "generated_tokens=64", "hardware=h100_sxm"]
    assert main(["fits", *words, "memory=64GiB", "out=run"]) == 0
    answer = json.loads((tmp_path / "run" / "fits.json").read_text())
    assert answer["mode"] == "inference"
    assert answer["largest_batch"] < answer["most_batch"]
    assert main(["fits", *STACK, "hardware=h100_sxm", "memory=60GiB"]) == 0
    assert "1048576 or more (no larger one was tried)" in capsys.readouterr().out


def test_multirun_gives_every_job_a_folder(tmp_path: Path) -> None:
    arguments = ["optimize", *STACK, *FAST, "memory=range:0.3,range:0.7", "out=sweep", "-m"]
    assert main(arguments) == 0
    for job in ("0", "1"):
        assert {path.name for path in (tmp_path / "sweep" / job).iterdir()} == FILES | {"job.json"}
    assert "range:0.3" in (tmp_path / "sweep" / "sweep.md").read_text()


def test_multirun_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", *STACK, *FAST, "memory=1KiB,2KiB", "-m"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_the_whole_way_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["hardware=local", "memory=range:0.5", "verify=true", "out=run"]
    code = main(["optimize", "model=gpt2_tiny", *arguments])
    text = capsys.readouterr().out
    verification = json.loads((tmp_path / "run" / "verification.json").read_text())
    assert code == 0, text
    assert verification["passed"]
    assert "predicted" in text
    assert "verified: loss, gradients" in text
    assert main(["verify", "schedule=run", "out=again"]) == 0
    assert "verified: loss, gradients" in capsys.readouterr().out


def test_verify_refuses_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", "model=resnet_tiny", *FAST, "out=run"]) == 0
    monkeypatch.setattr("remora.cli.verify.run_verification", None)
    schedule = tmp_path / "run" / "schedule.json"
    whole = schedule.read_text()

    def message(*extra: str) -> str:
        assert main(["verify", "schedule=run", *extra]) == 2
        return capsys.readouterr().err

    assert "made for another model or batch" in message("model=gpt2_tiny")
    assert "allowed: local" in message("hardware=rtx3090")
    schedule.write_text(whole[:-30])
    assert "cut short" in message()
    schedule.write_text(json.dumps({**json.loads(whole), "version": 99}))
    assert "version is 99" in message()
    schedule.write_text(whole)
    (tmp_path / "run" / "estimate.json").unlink()
    assert "model is missing" in message()


def test_the_configuration_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config("optimize", ["model=gpt2_tiny", "out=x"])

    class Command:
        @staticmethod
        def run(config: object) -> None:
            OmegaConf.update(config, "memory", "1GiB")

    monkeypatch.setattr(compose, "import_module", lambda name: Command)
    with pytest.raises(ReadonlyConfigError):
        compose.run_command("optimize", config, None)


@pytest.mark.parametrize("group", ["hardware", "agent", "cost_model", "tracker"])
def test_every_file_of_a_group_composes(group: str) -> None:
    for name in config_names(group):
        config = compose_config("optimize", ["model=gpt2_tiny", f"{group}={name}"])
        assert config[group].name == name


def test_every_file_of_the_training_composes() -> None:
    from remora.api.agent_training.config import agent_training_config

    for name in config_names("experiment"):
        config = compose_config("train_agent", [f"experiment={name}", "out=x", "seed=7"])
        values = OmegaConf.to_container(config, resolve=True)
        assert isinstance(values, dict)
        assert agent_training_config(training_values(values)).ppo.seed == 7


def test_the_schema_of_the_training_follows_its_records() -> None:
    from dataclasses import fields

    from remora.agents.learned.imitation.cloning import CloningConfig
    from remora.agents.learned.imitation.lookahead import LookaheadConfig
    from remora.agents.learned.imitation.recorder import Emphasis
    from remora.agents.learned.imitation.rounds import RoundConfig
    from remora.agents.learned.imitation.teachers import Translation
    from remora.agents.learned.network import NetworkSize
    from remora.agents.learned.ppo_config import PpoConfig
    from remora.api.agent_training.config import (
        EvaluationConfig,
        LabelsConfig,
        LookaheadsConfig,
        RoundsConfig,
    )

    pairs: tuple[tuple[type, set[str], type], ...] = (
        (LabelsSection, set(), LabelsConfig),
        (NetworkSection, set(), NetworkSize),
        (CloningSection, {"seed", "network"}, CloningConfig),
        (PpoSection, {"seed", "network"}, PpoConfig),
        (LookaheadSection, set(), LookaheadsConfig),
        (LookSection, set(), LookaheadConfig),
        (RoundsSection, set(), RoundsConfig),
        (RoundSection, set(), RoundConfig),
        (EmphasisSection, set(), Emphasis),
        (TranslationSection, set(), Translation),
        (EvaluationSection, set(), EvaluationConfig),
    )
    for section, elsewhere, record in pairs:
        named = {field.name for field in fields(section)}
        assert named | elsewhere == {field.name for field in fields(record)}


def test_every_schema_has_its_file() -> None:
    for name in SCHEMAS:
        models = ["model=gpt2_tiny"]
        given = {"verify": ["schedule=x"], "train_cost_model": ["dataset=x"]}
        overrides = given.get(name, models if name in ("optimize", "fits") else [])
        assert compose_config(name, overrides)


def test_single_values_go_before_those_of_the_experiment() -> None:
    config = compose_config(
        "train_agent",
        ["experiment=policy_fast", "cloning.epochs=9", "rounds.round.samples=5", "stages=[ppo]"],
    )
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    merged = training_values(values)
    assert merged["cloning"]["epochs"] == 9
    round_values = {key: merged["rounds"]["round"][key] for key in ("samples", "evaluations")}
    assert round_values == {"samples": 5, "evaluations": 20}
    assert merged["stages"] == ["ppo"]
    assert merged["ppo"]["total_steps"] == 256


def test_training_shows_its_progress_and_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-agent", "experiment=policy_fast", "tracker=csv", "out=run"]) == 0
    shown = capsys.readouterr()
    assert "stage ppo" in shown.err
    assert "policy, greedy" in shown.out
    assert (tmp_path / "run" / "policy" / "card.json").exists()
    status = json.loads((tmp_path / "run" / "csv" / "status.json").read_text())
    assert status == {"status": "done"}


PIPELINE = [*STACK, "hardware=4xa100", "world_size=2", "agent=greedy", "memory=range:0.5"]


def test_a_pipeline_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", *PIPELINE, "micro_batches=4", "out=run"]) == 0
    text = capsys.readouterr().out
    assert "4 micro-batches in every step" in text
    plan = remora.load("run")
    assert plan.problem.world_size == 2
    assert plan.problem.micro_batches == 4
    assert plan.estimate.peak_memory_bytes <= plan.budget_bytes
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    monkeypatch.setattr("remora.cli.verify.build_to_trace", None)
    assert main(["verify", "schedule=run", *STACK, "world_size=3"]) == 2
    assert "world_size is 3; allowed for a schedule of 2 ranks" in capsys.readouterr().err
    monkeypatch.setattr("remora.cli.optimize.build_to_trace", None)
    assert main(["optimize", *PIPELINE, "verify=true"]) == 2
    assert "verify is true and hardware is '4xa100'" in capsys.readouterr().err


def test_a_pipeline_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [*STACK, "world_size=2", "micro_batches=4", "agent=greedy", "memory=range:0.7"]
    assert main(["optimize", *wanted, "verify=true", "out=run"]) == 0
    assert "verified: loss, gradients, buffers" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "verification.json").read_text())
    assert record["passed"]
    assert len(record["measurement"]["peak_by_rank_bytes"]) == 2


def test_the_front_of_a_pipeline_does_not_rise(tmp_path: Path) -> None:
    arguments = [*PIPELINE, "memory=sweep", "time_limit_s=2", "out=run"]
    assert main(["optimize", *arguments]) == 0
    points = json.loads((tmp_path / "run" / "pareto.json").read_text())["points"]
    times = [point["step_time_s"] for point in points]
    assert times == sorted(times, reverse=True)


def test_doctor_names_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "torch" in text
    assert "models of the zoo" in text
    assert "installs an import named remora" not in text


@pytest.mark.parametrize("name", ["remora", "other-remora"])
def test_doctor_names_another_distribution_of_our_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    (folder / "top_level.txt").write_text("remora\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["doctor"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Distribution {name} 9.9 installs an import named remora too" in text
