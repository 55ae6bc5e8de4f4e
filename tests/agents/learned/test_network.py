"""The network: exact sizes and padded observations agree; parts that must matter do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from remora.agents.learned.batch import (
    graph_of_episode,
    graphs_of_observations,
    state_of_episode,
    states_of_observations,
)
from remora.envs.actions import UnitAction
from remora.envs.episode import Episode
from remora.envs.features import graph_features
from remora.envs.observation import ObservationSize, observe
from tests.agents.learned.policies import SMALL, untrained
from tests.envs.toy import SIZE, toy_tables


def _episodes() -> list[Episode]:
    """States of different graphs, budgets and depths."""
    first, second = toy_tables((96, 16, 160)), toy_tables((32, 96, 64, 48))
    states = [Episode(first, first.budget_bytes(0.3)), Episode(second, second.budget_bytes(0.8))]
    for depth in (1, 2, 3):
        states.append(states[-1].after(int(np.flatnonzero(states[-1].mask)[-depth % 2])))
    return states


def _stacked(episodes: list[Episode], size: ObservationSize) -> dict[str, Tensor]:
    seen = [observe(episode, graph_features(episode), size) for episode in episodes]
    return {key: torch.from_numpy(np.stack([one[key] for one in seen])) for key in seen[0]}


@pytest.mark.parametrize("size", [SIZE, ObservationSize(17, 40)])
def test_padded_batches_and_exact_sizes_agree(size: ObservationSize) -> None:
    network, episodes = untrained(), _episodes()
    stacked = _stacked(episodes, size)
    with torch.no_grad():
        scores, values = network(graphs_of_observations(stacked), states_of_observations(stacked))
        for row, episode in enumerate(episodes):
            graph = graph_of_episode(graph_features(episode))
            score, value = network(graph, state_of_episode(episode))
            torch.testing.assert_close(scores[row : row + 1], score, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(values[row : row + 1], value, rtol=1e-5, atol=1e-6)
    assert scores.shape == (len(episodes), len(UnitAction))
    assert values.shape == (len(episodes), 1)


def test_units_are_encoded_without_looking_at_decisions() -> None:
    network, episodes = untrained(), _episodes()
    same_problem = [e for e in episodes if e.budget_bytes == episodes[1].budget_bytes]
    assert len(same_problem) > 1
    embedded = [
        network.encoder.embed(graph_of_episode(graph_features(episode))) for episode in same_problem
    ]
    for other in embedded[1:]:
        assert torch.equal(embedded[0], other)


def test_scores_depend_on_the_budget_and_on_decisions() -> None:
    network, tables = untrained(), toy_tables()
    scores = []
    for share, decisions in ((0.3, 0), (0.9, 0), (0.9, 1)):
        episode = Episode(tables, tables.budget_bytes(share))
        for _ in range(decisions):
            episode = episode.after(episode.fallback)
        graph = graph_of_episode(graph_features(episode))
        scores.append(network(graph, state_of_episode(episode))[0])
    assert not torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[1], scores[2])


def test_gradients_reach_every_weight() -> None:
    network, episodes = untrained(), _episodes()
    stacked = _stacked(episodes, SIZE)
    scores, values = network(graphs_of_observations(stacked), states_of_observations(stacked))
    (scores.square().sum() + values.square().sum()).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
    assert SMALL.context == network.action_head.context[0].in_features
