"""Verifies pipelines of passes on the ranks that torchrun started; rank 0 writes what came of them.

Run as ``python -m tests.executor.pipeline.pass_worker REQUEST ANSWER``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensor

from remora.executor.pipeline.passes.verify import verify_passes_on_ranks
from remora.executor.pipeline.world import joined_ranks
from remora.report.files import write_json
from remora.simulator.records import Verification
from tests.executor.pipeline.pass_cases import PassCase, build_pass


def main() -> None:
    request, answer = (Path(argument) for argument in sys.argv[1:3])
    cases = [PassCase(**values) for values in json.loads(request.read_text())]
    with joined_ranks(torch.device("cpu"), 60.0):
        found = [_verify(case) for case in cases]
    if os.environ.get("RANK", "0") == "0":
        write_json(answer, [dataclasses.asdict(one) for one in found if one is not None])


def _verify(case: PassCase) -> Verification | None:
    built = build_pass(case)
    model = built.example.model
    if case.fault != "none" and int(os.environ.get("RANK", "0")) == case.ranks - 1:
        _break(model, case.fault)
    return verify_passes_on_ranks(
        model,
        built.example.example_inputs,
        built.graph,
        built.schedule,
        built.spec,
        device=torch.device("cpu"),
        repetitions=0,
    )


def _break(model: nn.Module, fault: str) -> None:
    """Let the head fail where it really runs; the plain model runs on another rank."""

    def fail(module: nn.Module, args: Any, logits: Any) -> Any:
        if isinstance(logits, FakeTensor):
            return logits
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return -logits

    model.get_submodule("lm_head").register_forward_hook(fail)


if __name__ == "__main__":
    main()
