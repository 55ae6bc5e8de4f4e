"""Plan a small model for two ranks, save the plan, and train by it under torchrun.

Run ``python -m examples.pipeline_training``; it starts torchrun on itself. On a cluster, start
``torchrun ... -m examples.pipeline_training PLAN`` on every node instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

import torch
from torch import Tensor, nn

import remora

WIDTH, LAYERS, BATCH, STEPS = 32, 6, 8, 5


def make_model() -> nn.Module:
    """A chain of residual blocks with dropout."""
    blocks = [
        nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(0.1)) for _ in range(LAYERS)
    ]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, 1))


def batch_of_step(step: int, replica: int) -> tuple[Tensor]:
    """Every replica draws its own samples.  # [BATCH, WIDTH]."""
    draw = torch.Generator().manual_seed(1000 * replica + step)
    return (torch.randn(BATCH, WIDTH, generator=draw),)


def make_plan(folder: str) -> None:
    """Plan for two devices and save the files that every rank reads."""
    plan = remora.optimize(
        make_model(), batch_of_step(0, 0), world_size=2, move_state=False, time_limit_s=3
    )
    plan.save(folder)
    print(f"planned: {plan.schedule.pipeline.kind.value}", flush=True)


def train(folder: str) -> None:
    """What every rank runs."""
    plan = remora.load(folder)
    with plan.on_ranks(make_model(), batch_of_step(0, 0)) as ranks:
        optimizer = torch.optim.AdamW(ranks.parameters(), lr=1e-2)
        for step in range(STEPS):
            loss = ranks.backward(batch_of_step(step, ranks.replica))
            optimizer.step()
            optimizer.zero_grad()
            if torch.distributed.get_rank() == 0:
                print(f"step {step}: loss {loss.item():.4f}", flush=True)
        weights = ranks.state_dict()
    if weights:
        make_model().load_state_dict(weights)
        print(f"gathered {len(weights)} tensors")


def main(arguments: list[str]) -> None:
    """Plan, then start the ranks; with a folder as argument, be one of them."""
    if arguments:
        train(arguments[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        make_plan(folder)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        this = ["--nproc-per-node=2", "-m", "examples.pipeline_training", folder]
        subprocess.run([*torchrun, *this], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
