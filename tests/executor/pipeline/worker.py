"""Verifies pipelines on the ranks that torchrun started; rank 0 writes what came of them.

Run as ``python -m tests.executor.pipeline.worker REQUEST ANSWER``.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path

import torch

from remora.executor.pipeline.limits import check_runs_on_ranks
from remora.executor.pipeline.verify import verify_on_ranks
from remora.executor.pipeline.world import joined_ranks
from remora.report.files import write_json
from remora.simulator.records import Verification
from tests.executor.pipeline.cases import PipelineCase, build, case_from_values


def main() -> None:
    request, answer = (Path(argument) for argument in sys.argv[1:3])
    cases = [case_from_values(values) for values in json.loads(request.read_text())]
    found: list[Verification | None] = []
    with joined_ranks(torch.device("cpu"), 60.0):
        for case in cases:
            found.append(_verify(case))
    if found[0] is not None:
        write_json(answer, [dataclasses.asdict(v) for v in found if v is not None])


def _verify(case: PipelineCase) -> Verification | None:
    built = build(case)
    # What was imported and built is no garbage; runs begin with a search for some.
    gc.freeze()
    example = built.example
    check_runs_on_ranks(example.model, built.graph, built.schedule, case.devices)
    return verify_on_ranks(
        example.model,
        built.inputs,
        example.loss,
        built.graph,
        built.schedule,
        device=torch.device("cpu"),
        repetitions=0,
    )


if __name__ == "__main__":
    main()
