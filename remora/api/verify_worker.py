"""The process of its own that builds a model and verifies a schedule on it.

Run as ``python -m remora.api.verify_worker REQUEST ANSWER``; both are JSON files.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from remora.api.model_source import ModelSource, own_error_lines
from remora.api.placement import build_on
from remora.errors import FileFormatError, RemoraError, UsageError
from remora.graph.trace import trace
from remora.report.files import write_json
from remora.schedule.serialize import schedule_from_json
from remora.simulator.records import Estimate

__all__ = ["answer_request", "main"]

_REPETITIONS = 5


def main() -> None:
    """Read the request, write the answer."""
    request_path, answer_path = (Path(argument) for argument in sys.argv[1:3])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    write_json(answer_path, answer_request(request))


def answer_request(request: dict[str, Any]) -> dict[str, Any]:
    """Verify and return the verdict, or the error of the model or of its values.

    Args:
        request: as ``verify_process`` writes it.
    """
    try:
        return {"kind": "verification", "verification": _verify(request)}
    except RemoraError as error:
        cause = error.__cause__
        return {
            "kind": "usage" if isinstance(error, UsageError) else "model",
            "message": str(error),
            "own_error": [] if cause is None else own_error_lines(cause),
        }


def _verify(request: dict[str, Any]) -> dict[str, Any]:
    from remora.executor.verify import verify

    example = build_on(ModelSource(**request["source"]), request["device_type"])
    model = example.model
    graph = trace(model, example.example_inputs, example.loss, request["units"])
    schedule = schedule_from_json(request["schedule"])
    if schedule.graph_hash != graph.content_hash:
        raise FileFormatError(
            f"the schedule belongs to another model or batch: its graph is "
            f"{schedule.graph_hash}, that of this model is {graph.content_hash}"
        )
    estimate = dict(request["estimate"])
    estimate["peak_by_rank_bytes"] = tuple(estimate["peak_by_rank_bytes"])
    verification = verify(
        model,
        example.example_inputs,
        example.loss,
        graph,
        schedule,
        budget_bytes=request["budget_bytes"],
        estimate=Estimate(**estimate),
        optimizer_name=request["optimizer"],
        repetitions=_REPETITIONS,
        allow_lossy=request["allow_lossy"],
    )
    return dataclasses.asdict(verification)


if __name__ == "__main__":
    main()
