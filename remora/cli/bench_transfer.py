"""``remora bench transfer``: a policy on models, hardware and sizes that it never saw."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from remora.api.bench.transfer.files import write_transfer
from remora.api.bench.transfer.groups import read_groups
from remora.api.bench.transfer.practice import practice_config
from remora.api.bench.transfer.request import ROWS_NAME, TransferRequest, policy_folder
from remora.api.bench.transfer.run import run_transfer
from remora.api.bench.transfer.tables import transfer_sections
from remora.cli.bench_output import print_sections, rows_named_if_interrupted
from remora.cli.console import output, print_files, progress_shown
from remora.cli.request import plain, without_none

__all__ = ["run", "transfer_request"]


def run(config: DictConfig) -> None:
    """Run what is left to run, print the tables and write the files.

    Raises:
        UsageError: a value is not allowed.
        KeyboardInterrupt: rows and trained policies so far are kept, for ``resume=true``.
    """
    request = transfer_request(config)
    console = output()
    with rows_named_if_interrupted(console, request.out / ROWS_NAME), progress_shown() as progress:
        result = run_transfer(request, progress.stage)
    print_sections(console, transfer_sections(result.rows, result.trainings), result.notes)
    print_files(console, write_transfer(request, result))


def transfer_request(config: DictConfig) -> TransferRequest:
    """Read the configuration.

    Raises:
        UsageError: a name or value is not allowed.
    """
    values = plain(config)
    return TransferRequest(
        policy=policy_folder(config.policy),
        groups=read_groups(values["groups"]),
        out=Path(config.out),
        problems=config.problems,
        practice=practice_config(without_none(values["practice"])),
        fine_tune_s=config.fine_tune_s,
        time_limit_s=config.time_limit_s,
        reference_s=config.reference_s,
        seeds=tuple(values["seeds"]),
        jobs=config.jobs,
        resume=config.resume,
        command=" ".join(["remora", *(w for w in sys.argv[1:] if not w.startswith("out="))]),
    )
