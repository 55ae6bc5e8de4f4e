"""Running a verification from the command line, its file, its table and its exit code."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from rich.console import Console

from remora.api.model_source import ModelSource
from remora.api.plan import Plan
from remora.api.plan_files import VERIFICATION_NAME
from remora.api.verify_here import VerifyJob, started_ranks, verify_here
from remora.api.verify_process import verify_in_process
from remora.cli.console import print_line
from remora.errors import ModelRunError, VerificationError
from remora.hardware.local import local_device_type
from remora.report.content import ReportContent
from remora.report.files import write_json
from remora.report.perfetto import timeline_to_perfetto
from remora.report.tables import verdict_table
from remora.report.verdict_words import verdict_sentence
from remora.simulator.records import Verification

__all__ = [
    "TIMELINE_NAME",
    "VERIFICATION_NAME",
    "print_verdict",
    "raise_if_failed",
    "run_verification",
    "write_timeline",
    "write_verdict",
]

TIMELINE_NAME = "timeline.json"


def run_verification(
    plan: Plan, source: ModelSource, folder: Path, time_limit_s: float
) -> tuple[Verification, Path]:
    """Verify a plan in processes of its own and write ``verification.json``.

    Under torchrun this process is itself one of the ranks, and only rank 0 comes back.

    Args:
        plan: what was planned.
        source: builds the model.
        folder: where the file goes.
        time_limit_s: seconds after which the processes are ended.

    Raises:
        UsageError: the schedule belongs to another model.
        ModelRunError: the user's model failed.
    """
    job = VerifyJob(
        source=source,
        schedule=plan.schedule,
        budget_bytes=plan.budget_bytes,
        estimate=plan.estimate,
        optimizer=plan.problem.optimizer.name,
        device_type=local_device_type(),
        units=plan.units,
        allow_lossy=plan.problem.allow_lossy,
        world_size=plan.problem.world_size,
        inference=plan.problem.inference,
        time_limit_s=time_limit_s,
    )
    verification = _verified(job)
    return verification, write_verdict(verification, folder)


def write_verdict(verification: Verification, folder: Path) -> Path:
    """Write ``verification.json`` into a folder and return its path."""
    path = folder / VERIFICATION_NAME
    record = dataclasses.asdict(dataclasses.replace(verification, timeline=None))
    del record["timeline"]
    verdict = {"passed": verification.passed, "failures": verification.failures}
    write_json(path, {"version": 1, **verdict, **record})
    return path


def write_timeline(plan: Plan, folder: Path) -> Path:
    """Write ``timeline.json``: the simulated run, and beside it the measured one if there is one.

    Args:
        plan: what was planned.
        folder: where the file goes.
    """
    path = folder / TIMELINE_NAME
    names = [unit.name for unit in plan.problem.graph.units]
    measured = None if plan.verification is None else plan.verification.timeline
    write_json(path, timeline_to_perfetto(plan.timeline, names, measured), compact=True)
    return path


def _verified(job: VerifyJob) -> Verification:
    if started_ranks() is None:
        return verify_in_process(job, job.time_limit_s)
    verification = verify_here(job)
    if verification is None:
        sys.exit(0)
    return verification


def print_verdict(console: Console, content: ReportContent, verification: Verification) -> None:
    """Print predicted against measured, and the verdict."""
    print_line(console)
    if not verification.run_failed:
        console.print(verdict_table(content, verification))
        print_line(console)
    print_line(console, verdict_sentence(verification, content.mode))


def raise_if_failed(verification: Verification) -> None:
    """Turn a negative verdict into the error with its exit code.

    Raises:
        ModelRunError: the run died.
        VerificationError: any other flag is set.
    """
    if verification.run_failed:
        raise ModelRunError(f"the measured run died: {verification.detail}")
    if not verification.passed:
        names = ", ".join(flag.replace("_", " ") for flag in verification.failures)
        raise VerificationError(f"verification failed: {names}")
