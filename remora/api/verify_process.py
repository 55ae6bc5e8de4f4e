"""Verifying in a process of its own: a crash, a hang or lack of memory there is a result here."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from remora.api.plan_files import verification_from_values
from remora.api.problem_file import inference_values
from remora.api.rank_processes import Ended, run_ranks
from remora.api.verify_here import VerifyJob
from remora.errors import ModelRunError, RemoraError, UsageError
from remora.report.files import write_json
from remora.schedule.serialize import schedule_to_json
from remora.simulator.records import Measurement, Verification

__all__ = ["VerifyJob", "request_values", "verify_in_process"]

_WORKER = "remora.api.verify_worker"


def verify_in_process(job: VerifyJob, time_limit_s: float) -> Verification:
    """Run a verification in fresh processes, one for every rank.

    Args:
        job: what to run.
        time_limit_s: seconds after which the processes are ended.

    Returns:
        The verdict; ``run_failed`` with a detail if a process died or took too long.

    Raises:
        UsageError: the process refused the schedule or the model's values.
        ModelRunError: the user's model failed; its own error is part of the message.
    """
    with tempfile.TemporaryDirectory(prefix="remora-") as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        write_json(request, request_values(job))
        ended = run_ranks(_WORKER, [str(request), str(answer)], job.world_size, time_limit_s)
        values = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    if values is not None and values["kind"] != "verification":
        # The other ranks met the same error, or died since the one that met it was gone.
        _raise_error(values)
    if ended.status != "ok" or values is None:
        return _died(ended)
    return verification_from_values(values["verification"])


def request_values(job: VerifyJob) -> dict[str, Any]:
    """Return what the processes are told, as plain values."""
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
        "world_size": job.world_size,
        "inference": inference_values(job.inference),
        "time_limit_s": job.time_limit_s,
    }


def _raise_error(answer: dict[str, Any]) -> NoReturn:
    error: RemoraError
    if answer["kind"] == "usage":
        error = UsageError(answer["message"])
    else:
        error = ModelRunError(answer["message"])
    for line in answer["own_error"]:
        error.add_note(line)
    raise error


def _died(ended: Ended) -> Verification:
    detail = ended.detail or "the process ended without an answer"
    status = "crashed" if ended.status == "ok" else ended.status
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
