"""The process of its own that measures one subject and adds it to the dataset.

Run as ``python -m remora.api.profiling.worker JOB JOURNAL ANSWER``: what to measure, what an
earlier process measured before it died, and where the name of the shard goes; JSON files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from remora.api.model_source import own_error_lines
from remora.api.profiling.job import job_from_values
from remora.api.profiling.journal import Journal
from remora.api.profiling.measuring import measure_subject
from remora.api.run_member import join_run
from remora.cost_models.dataset.shard import write_shard
from remora.errors import RemoraError
from remora.report.files import write_json

__all__ = ["main"]


def main() -> None:
    """Measure and write the shard."""
    join_run()
    job_path, journal_path, answer_path = (Path(argument) for argument in sys.argv[1:4])
    job = job_from_values(json.loads(job_path.read_text(encoding="utf-8")))
    try:
        run = measure_subject(job, Journal(journal_path))
        path = write_shard(job.folder, run)
    except RemoraError as error:
        write_json(answer_path, _failure(error))
        return
    ran = sum(step.status == "ok" for step in run.steps)
    write_json(
        answer_path,
        {"shard": path.name, "units": len(run.units), "steps": len(run.steps), "ran": ran},
    )


def _failure(error: RemoraError) -> dict[str, Any]:
    cause = error.__cause__
    lines = [] if cause is None else own_error_lines(cause)
    return {"error": str(error), "own_error": lines}


if __name__ == "__main__":
    main()
