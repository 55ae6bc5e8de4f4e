"""What the host adds is measured as the planner charges it; compression at its own rate."""

from __future__ import annotations

import torch

from remora.executor.replay.optimizer import measure_optimizer
from remora.executor.replay.overhead import measure_overheads
from remora.schedule.problem import OPTIMIZERS
from tests.problems import toy_graph


def test_all_figures_are_there() -> None:
    found = measure_overheads(torch.device("cpu"))
    # No duration is asserted: a busy machine may make any of them small.
    assert found.saved_tensor_s >= 0
    assert found.recorded_op_s >= 0
    assert 0 < found.compress_bytes_per_s < 1e13
    assert 0 < found.restore_bytes_per_s < 1e13


def test_every_optimizer_can_be_measured() -> None:
    for name, spec in OPTIMIZERS.items():
        seconds = measure_optimizer(toy_graph(), name, torch.device("cpu"), repetitions=1)
        assert (seconds > 0) == spec.counted
