"""``remora profile``: measure operators, units and steps of models, and add them to a dataset."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from remora.api.profiling.collect import Collected, Done, ProfileRequest, collect
from remora.api.profiling.subjects import subjects_from_values, subjects_of_model
from remora.cli.console import counted_progress, output, print_line
from remora.cli.folders import check_folder
from remora.cli.request import model_source, optimizer_name, plain
from remora.cost_models.dataset.card import dataset_card
from remora.cost_models.dataset.dataset import read_dataset
from remora.errors import InvalidInputError, ModelRunError
from remora.report.files import write_text
from remora.report.wording import duration_text
from remora.tracking.registry import create
from remora.tracking.tracker import tracked

__all__ = ["CARD_NAME", "profile_request", "run"]

CARD_NAME = "README.md"


def run(config: DictConfig) -> None:
    """Measure what the dataset lacks and say what came of it.

    Raises:
        UsageError: a value is not allowed.
        ModelRunError: not one subject could be measured.
        KeyboardInterrupt: what was measured is kept; the same command goes on from there.
    """
    request = profile_request(config)
    console = output()
    tracker_values = plain(config.tracker)
    tracker = create(tracker_values.pop("name"), **tracker_values)
    with tracked(tracker, plain(config)):
        with counted_progress("describing the device") as show:
            collected = collect(request, lambda done: show(_text(done), done.number, done.total))
        if collected.measured or collected.skipped:
            _write_card(request.dataset)
            tracker.log_artifact("profiled_runs", "dataset", request.dataset)
    _print(console, request, collected)
    if collected.failed and not collected.measured and not collected.skipped:
        raise ModelRunError("no subject could be measured")


def profile_request(config: DictConfig) -> ProfileRequest:
    """Read the configuration; a model takes the place of the list of subjects.

    Raises:
        UsageError: a name or value is not allowed.
    """
    if config.model is None:
        for name in ("batches", "dtypes"):
            if config[name] is not None:
                raise InvalidInputError(
                    f"{name} is {list(config[name])}, allowed without model=: null, since every "
                    "subject has its own"
                )
        subjects = subjects_from_values(plain(config.subjects))
    else:
        values = plain(config)
        source = model_source(config.model)
        subjects = subjects_of_model(source, config.family, values["batches"], values["dtypes"])
    dataset = config.dataset or str(Path(config.out) / "profiled_runs")
    check_folder("dataset", dataset)
    return ProfileRequest(
        subjects=subjects,
        dataset=Path(dataset),
        schedules=config.schedules,
        repetitions=config.repetitions,
        optimizer=optimizer_name(config.optimizer),
        threads=config.threads,
        seed=config.seed,
        round=config.round,
        part=config.part,
        parts=config.parts,
        subject_time_limit_s=config.subject_time_limit_s,
        time_limit_s=config.time_limit_s,
    )


def _write_card(folder: Path) -> None:
    """Describe what the whole folder holds now."""
    about = (
        "Made by `remora profile`: every subject in a process of its own, units and steps in two "
        "passes, nothing discarded."
    )
    write_text(folder / CARD_NAME, dataset_card(read_dataset(folder), about=about))


def _print(console: Console, request: ProfileRequest, collected: Collected) -> None:
    print_line(
        console,
        f"{len(collected.measured)} subjects measured, {collected.skipped} were there already, "
        f"{len(collected.failed)} failed, {collected.not_begun} left out for lack of time; "
        f"dataset: {request.dataset}",
    )
    for sentence in collected.failed:
        print_line(console, f"not measured: {sentence}")


def _text(done: Done) -> str:
    subject = done.subject
    return (
        f"{subject.model} batch {subject.batch} {subject.dtype}: {done.words}; "
        f"{duration_text(done.left_s)} left"
    )
