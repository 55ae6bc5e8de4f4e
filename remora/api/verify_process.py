"""Verifying in a process of its own: a crash, a hang or lack of memory there is a result here."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remora.api.model_source import ModelSource
from remora.api.plan_files import verification_from_values
from remora.errors import ModelRunError, RemoraError, UsageError
from remora.report.files import write_json
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_to_json
from remora.simulator.records import Estimate, Measurement, Verification

__all__ = ["VerifyJob", "verify_in_process"]

_WORKER = "remora.api.verify_worker"
_KEPT_LINES = 20


@dataclass(frozen=True)
class VerifyJob:
    """What the process shall run and hold it against.

    Attributes:
        source: builds the model.
        schedule: to apply.
        budget_bytes: limit of the measured peak.
        estimate: the prediction.
        optimizer: name of the optimizer of the measured steps.
        device_type: where the model runs.
        units: module paths that begin units, if they were given.
        allow_lossy: whether the schedule may compress saved tensors.
    """

    source: ModelSource
    schedule: Schedule
    budget_bytes: int
    estimate: Estimate
    optimizer: str
    device_type: str = "cpu"
    units: tuple[str, ...] | None = None
    allow_lossy: bool = False


def verify_in_process(job: VerifyJob, time_limit_s: float) -> Verification:
    """Run a verification in a fresh process.

    Args:
        job: what to run.
        time_limit_s: seconds after which the process is ended.

    Returns:
        The verdict; ``run_failed`` with a detail if the process died or took too long.

    Raises:
        UsageError: the process refused the schedule or the model's values.
        ModelRunError: the user's model failed; its own error is part of the message.
    """
    with tempfile.TemporaryDirectory(prefix="remora-") as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        write_json(request, _request_values(job))
        command = [sys.executable, "-m", _WORKER, str(request), str(answer)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        try:
            _, errors = process.communicate(timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return _died("timed_out", f"the run took longer than {time_limit_s:g} s")
        except BaseException:
            _end(process)
            raise
        if process.returncode != 0 or not answer.exists():
            return _died(*_reason(process.returncode, errors))
        return _read_answer(json.loads(answer.read_text(encoding="utf-8")))


def _request_values(job: VerifyJob) -> dict[str, Any]:
    return {
        "source": {
            "name": job.source.name,
            "target": job.source.target,
            "values": dict(job.source.values),
        },
        "schedule": schedule_to_json(job.schedule),
        "budget_bytes": job.budget_bytes,
        "estimate": dataclasses.asdict(job.estimate),
        "optimizer": job.optimizer,
        "device_type": job.device_type,
        "units": job.units,
        "allow_lossy": job.allow_lossy,
    }


def _environment() -> dict[str, str]:
    # A module of the user's own is found in the same places as in this process.
    paths = [path for path in sys.path if path] + [str(Path.cwd())]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _read_answer(answer: dict[str, Any]) -> Verification:
    if answer["kind"] == "verification":
        return verification_from_values(answer["verification"])
    error: RemoraError
    if answer["kind"] == "usage":
        error = UsageError(answer["message"])
    else:
        error = ModelRunError(answer["message"])
    for line in answer["own_error"]:
        error.add_note(line)
    raise error


def _reason(return_code: int, errors: str) -> tuple[str, str]:
    """Status and detail of a process that died."""
    last = " | ".join(errors.strip().splitlines()[-_KEPT_LINES:][-1:])
    if return_code == -signal.SIGKILL:
        return "out_of_memory", "the process was killed, as the system does for lack of memory"
    if return_code < 0:
        return "crashed", f"the process died of {signal.Signals(-return_code).name}: {last}"
    return "crashed", f"the process ended with code {return_code}: {last}"


def _died(status: str, detail: str) -> Verification:
    measurement = Measurement(0.0, (), 0, "", status=status, detail=detail)
    return Verification(
        loss_differs=False,
        gradients_differ=False,
        buffers_differ=False,
        random_state_differs=False,
        over_budget=False,
        over_bound=False,
        time_off=False,
        run_failed=True,
        worst_gradient="",
        max_gradient_difference=0.0,
        measurement=measurement,
        detail=detail,
    )


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
