"""Small networks, and states of episodes that they look at."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from remora.agents.learned.batch import decision_numbers, distinct_graphs, graphs_of, steps_of
from remora.agents.learned.network import NetworkSize, PlanNetwork, decided_at
from remora.envs.batch import EpisodeBatch
from tests.envs.problems import SIZE, random_action, sampler_of

SMALL = NetworkSize(width=16, rounds=2, heads=2)
NAMES = ("toy", "gpt2_tiny", "unet_tiny")


def untrained(seed: int = 0, size: NetworkSize = SMALL) -> PlanNetwork:
    torch.manual_seed(seed)
    return PlanNetwork(size).eval()


def without_preferences(seed: int = 0) -> PlanNetwork:
    """A network that does not know beforehand what is likely to be good."""
    network = untrained(seed)
    with torch.no_grad():
        network.action_head.outlook.weight.zero_()
    return network


def opinionated(seed: int = 0) -> PlanNetwork:
    """A network whose scores depend on everything, as those of a trained one do."""
    network = untrained(seed)
    with torch.no_grad():
        network.action_head.score.weight.mul_(50.0)
    return network


def begun(count: int = 6, share: float = 0.3) -> EpisodeBatch:
    """Episodes of several problems, two after the other of the same one."""
    sampler = sampler_of(*NAMES)
    batch = EpisodeBatch(sampler, count, SIZE)
    for place in range(count):
        index = place // 2 % len(NAMES)
        batch.begin(place, index, sampler.problems[index].budget_bytes(share))
    return batch


def random_actions(batch: EpisodeBatch, generator: np.random.Generator) -> np.ndarray:
    """An allowed action of every episode; 0 for those that are over."""
    return np.array(
        [
            random_action(batch, generator, place) if mask.any() else 0
            for place, mask in enumerate(batch.masks)
        ],
        dtype=np.int64,
    )


def shown(batch: EpisodeBatch, *places: int) -> dict[str, Tensor]:
    """Observations as a training library hands them over; of all places without any."""
    rows = list(places) or list(range(len(batch.masks)))
    return {
        name: torch.as_tensor(values[rows].copy()) for name, values in batch.observations().items()
    }


def scores_of(network: PlanNetwork, observations: dict[str, Tensor]) -> Tensor:
    """Scores and value of every row, from nothing but the observations.  # [B, A + 1]."""
    firsts, graph = distinct_graphs(observations)
    encoding = network.reader.encode(graphs_of(observations, firsts))
    steps = steps_of(observations, graph)
    decisions = decision_numbers(observations, encoding.units.shape[1] - 1)
    before = network.reader.decided_before(encoding, graph, decisions)
    decided = decided_at(before, torch.arange(len(graph)), steps)
    return torch.cat(network(encoding, steps, decided), dim=1)
