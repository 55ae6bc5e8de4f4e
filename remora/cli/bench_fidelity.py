"""``remora bench fidelity``: cost models against measured runs of families they never saw."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from remora.api.bench.fidelity.figures import figures_of
from remora.api.bench.fidelity.files import write_fidelity
from remora.api.bench.fidelity.points import Judgement
from remora.api.bench.fidelity.run import FidelityRequest, run_fidelity
from remora.api.bench.fidelity.tables import fidelity_sections
from remora.api.train_cost_model import training_config
from remora.cli.bench_output import print_sections
from remora.cli.console import output, print_files, progress_shown
from remora.cli.request import folders_of, plain, without_none
from remora.cost_models.dataset.dataset import Dataset, read_dataset
from remora.cost_models.dataset.repeatability import repeatability

__all__ = ["fidelity_request", "noise_notes", "run"]


def run(config: DictConfig) -> None:
    """Judge what is left to judge, print the tables and write the files.

    Raises:
        UsageError: a value is not allowed.
        KeyboardInterrupt: the judgements so far are kept, for ``resume=true``.
    """
    request = fidelity_request(config)
    command = " ".join(["remora", *(w for w in sys.argv[1:] if not w.startswith("out="))])
    with progress_shown() as progress:
        progress.stage("reading the dataset")

        def watch(judgement: Judgement, done: int, total: int) -> None:
            found = figures_of([judgement], seen=False)
            progress.stage(
                f"{done}/{total} {judgement.method} without {judgement.left_out}: unit "
                f"{found.unit_error:.1%}, step {found.step_error:.1%}"
            )

        judgements = run_fidelity(request, watch)
        notes = noise_notes(read_dataset(*request.datasets))
    console = output()
    print_sections(console, fidelity_sections(judgements), notes)
    print_files(console, write_fidelity(request, judgements, command, notes))


def fidelity_request(config: DictConfig) -> FidelityRequest:
    """Read the configuration.

    Raises:
        UsageError: a name or value is not allowed.
    """
    values = plain(config)
    families = values["families"]
    return FidelityRequest(
        datasets=folders_of("dataset", values["dataset"]),
        training=training_config(without_none(values["training"])),
        out=Path(config.out),
        families=None if families is None else tuple(families),
        seeds=tuple(values["seeds"]),
        held_out_share=config.held_out_share,
        baseline_seeds=tuple(values["baseline_seeds"]),
        jobs=config.jobs,
        resume=config.resume,
    )


def noise_notes(dataset: Dataset) -> Sequence[str]:
    """Say how far the machine repeats itself: no model can be better than that."""
    found = repeatability(dataset.rounds)
    notes = [f"skipped: {fault}" for fault in dataset.faults]
    if found.pairs:
        notes.append(
            f"The machine itself, the same {found.pairs} subjects measured twice: unit times "
            f"differ by {found.unit_time.median:.1%} in the median, step times by "
            f"{found.step_time.median:.1%}, peaks by {found.peak_memory.median:.2%}."
        )
    return notes
