"""Plans inside of DistributedDataParallel: everything as in DDP without a plan."""

from __future__ import annotations

import json
from pathlib import Path

import torch.multiprocessing as mp

from tests.executor.memory.ddp_worker import CASES, RANKS, work
from tests.executor.memory.loops import PLANS


def test_replicas_train_as_without_a_plan(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=RANKS)
    for rank in range(RANKS):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(found) == len(CASES) * len(PLANS)
        assert {case: names for case, names in found.items() if names} == {}
