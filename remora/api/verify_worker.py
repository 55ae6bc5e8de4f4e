"""The process of its own that builds a model and verifies a schedule on it; one for every rank.

Run as ``python -m remora.api.verify_worker REQUEST ANSWER``; both are JSON files. Rank 0 writes the
verdict, and whoever met an error that error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from remora.api.model_source import ModelSource, own_error_lines
from remora.api.problem_file import inference_from_values
from remora.api.run_member import join_run
from remora.api.timeline_values import timeline_to_values
from remora.api.verify_here import VerifyJob, verify_here
from remora.errors import RemoraError, UsageError
from remora.report.files import write_json
from remora.schedule.serialize import schedule_from_json
from remora.simulator.records import Estimate, Verification

__all__ = ["answer_request", "main"]


def main() -> None:
    """Read the request, write the answer."""
    join_run()
    request_path, answer_path = (Path(argument) for argument in sys.argv[1:3])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    answer = answer_request(request)
    failed = answer["kind"] != "verification"
    if failed or os.environ.get("RANK", "0") == "0":
        write_json(answer_path, answer)
    if failed:
        # The others may be waiting for this rank, and are ended.
        sys.exit(1)


def answer_request(request: dict[str, Any]) -> dict[str, Any]:
    """Verify and return the verdict, or the error of the model or of its values.

    Args:
        request: as ``verify_process`` writes it.
    """
    try:
        verification = verify_here(_job(request))
    except RemoraError as error:
        cause = error.__cause__
        return {
            "kind": "usage" if isinstance(error, UsageError) else "model",
            "message": str(error),
            "own_error": [] if cause is None else own_error_lines(cause),
        }
    return {"kind": "verification", "verification": _values(verification)}


def _values(verification: Verification | None) -> dict[str, Any] | None:
    if verification is None:
        return None
    timeline = verification.timeline
    values = dataclasses.asdict(dataclasses.replace(verification, timeline=None))
    return {**values, "timeline": None if timeline is None else timeline_to_values(timeline)}


def _job(request: dict[str, Any]) -> VerifyJob:
    estimate = dict(request["estimate"])
    estimate["peak_by_rank_bytes"] = tuple(estimate["peak_by_rank_bytes"])
    units = request["units"]
    return VerifyJob(
        **{
            **request,
            "source": ModelSource(**request["source"]),
            "schedule": schedule_from_json(request["schedule"]),
            "estimate": Estimate(**estimate),
            "units": None if units is None else tuple(units),
            "inference": inference_from_values(request["inference"]),
        }
    )


if __name__ == "__main__":
    main()
