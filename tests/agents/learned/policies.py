"""Small networks and short trainings."""

from __future__ import annotations

import torch

from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.agents.learned.training import TrainingConfig

SMALL = NetworkSize(width=16, layers=1, heads=2)
SHORT = TrainingConfig(
    total_steps=64,
    num_envs=2,
    steps_per_env=16,
    batch_size=16,
    epochs=2,
    checkpoint_every=32,
    budgets_per_case=1,
    network=SMALL,
)


def untrained(seed: int = 0) -> PlanNetwork:
    torch.manual_seed(seed)
    return PlanNetwork(SMALL).eval()
