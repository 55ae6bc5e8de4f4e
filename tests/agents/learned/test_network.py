"""The network: padding, neighbours in a batch and the way of summing up change nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from remora.agents.learned.batch import GIVEN, GraphBatch, StepBatch, distinct_graphs, graphs_of
from remora.agents.learned.encoders import ENCODERS
from remora.agents.learned.network import Decided, NetworkSize
from remora.agents.learned.playing import Player
from remora.envs.actions import NUM_ACTIONS
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS
from remora.envs.batch import EpisodeBatch
from remora.envs.graphs import EDGE_COLUMNS, NODE_COLUMNS
from remora.envs.observation import Observation
from remora.errors import InvalidInputError, UnknownNameError
from tests.agents.learned.policies import (
    SMALL,
    begun,
    opinionated,
    random_actions,
    scores_of,
    shown,
    untrained,
)
from tests.envs.problems import SIZE, sampler_of

MLP = dataclasses.replace(SMALL, encoder="mlp")


@pytest.mark.parametrize("size", [SMALL, MLP])
@torch.no_grad()
def test_every_row_is_judged_as_if_it_were_alone(size: NetworkSize) -> None:
    batch, network, generator = begun(), untrained(size=size), np.random.default_rng(0)
    for _ in range(8):
        batch.step(random_actions(batch, generator))
    together = scores_of(network, shown(batch))
    for place in range(len(together)):
        alone = scores_of(network, shown(batch, place))[0]
        assert torch.allclose(together[place], alone, atol=1e-5), place


class _Staged(EpisodeBatch):
    """Shows stages of three units, whatever is decided."""

    def observations(self) -> Observation:
        observation = super().observations()
        observation["cursor"][:, 1] = observation["cursor"][:, 0] // 3 * 3
        return observation


@torch.no_grad()
def test_running_sums_of_a_stage_begin_anew_with_it() -> None:
    sampler, network, generator = sampler_of("toy"), opinionated(), np.random.default_rng(0)
    batch = _Staged(sampler, 1, SIZE)
    batch.begin(0, 0, sampler.problems[0].budget_bytes(0.6))
    player, starts = Player(network, batch), set()
    while player.running.any():
        told, anew = player.log_probabilities(), scores_of(network, shown(batch))[:, :NUM_ACTIONS]
        anew = anew.masked_fill(~torch.from_numpy(batch.masks), -torch.inf).log_softmax(dim=1)
        assert torch.allclose(told, anew, atol=1e-4)
        starts.add(float(batch.observations()["cursor"][0, 1]))
        player.act(random_actions(batch, generator))
    assert len(starts) > 2


@torch.no_grad()
def test_running_sums_of_a_player_are_those_of_the_observations() -> None:
    batch, network, generator = begun(), untrained(), np.random.default_rng(1)
    player = Player(network, batch)
    assert len(player.encoding.units) == 3
    while player.running.any():
        told = player.log_probabilities()
        anew = scores_of(network, shown(batch))[:, :NUM_ACTIONS]
        anew = anew.masked_fill(~torch.from_numpy(batch.masks), -torch.inf).log_softmax(dim=1)
        for place in np.flatnonzero(player.running):
            assert torch.allclose(told[place], anew[place], atol=1e-5)
            assert told[place].exp().sum() == pytest.approx(1.0, abs=1e-5)
        assert torch.isneginf(told[~player.running]).all()
        player.act(random_actions(batch, generator))


@torch.no_grad()
def test_what_was_decided_matters_also_where_the_state_does_not_show_it() -> None:
    batch, network = begun(1, share=1.0), untrained()
    while batch.phase(0).name != "UNITS":
        batch.step(np.array([0]))
    batch.step(np.array([0]))
    observations = shown(batch)
    before = scores_of(network, observations)
    decisions = observations["decisions"].reshape(1, -1, NUM_ACTIONS)
    assert decisions[0, 0, 0] == 1
    decisions[0, 0] = torch.eye(NUM_ACTIONS)[2]
    assert not torch.allclose(before, scores_of(network, observations), atol=1e-6)


@pytest.mark.parametrize(("size", "hears"), [(SMALL, True), (MLP, False)])
@torch.no_grad()
def test_only_messages_tell_a_unit_about_others(size: NetworkSize, hears: bool) -> None:
    graphs = graphs_of(shown(begun(1)), [0])
    encoder = untrained(size=size).reader.encoder
    nodes = graphs.nodes.clone()
    nodes[0, 0, NODE_COLUMNS.index("inputs")] += 1.0
    moved = (encoder(dataclasses.replace(graphs, nodes=nodes)) - encoder(graphs)).abs().sum(dim=2)
    assert moved[0, 0] > 1e-4
    assert (moved[0, -1] > 1e-6) == hears


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_budget_and_hardware_change_every_embedding(name: str) -> None:
    graphs = graphs_of(shown(begun(1)), [0])
    encoder = untrained(size=dataclasses.replace(SMALL, encoder=name)).reader.encoder
    tighter = encoder(dataclasses.replace(graphs, given=graphs.given - 1.0))
    assert ((tighter - encoder(graphs)).abs().sum(dim=2) > 1e-6).all()


def test_graphs_are_told_apart_by_budget_as_well() -> None:
    observations = shown(begun(4))
    assert distinct_graphs(observations)[1].tolist() == [0, 0, 1, 1]
    observations["state"][1, GIVEN[0]] += 0.5
    assert distinct_graphs(observations)[0] == [0, 1, 2]


@pytest.mark.parametrize("num_units", [1, 4, 512])
@torch.no_grad()
def test_one_set_of_weights_reads_small_and_large_graphs(num_units: int) -> None:
    network = untrained()
    ahead = torch.arange(num_units - 1)
    graphs = GraphBatch(
        nodes=torch.rand(1, num_units, len(NODE_COLUMNS)),
        there=torch.ones(1, num_units, dtype=torch.bool),
        edge_index=torch.stack([ahead, ahead + 1]),
        edges=torch.rand(num_units - 1, len(EDGE_COLUMNS)),
        given=torch.rand(1, len(GIVEN)),
    )
    cursor = torch.arange(num_units + 1)
    steps = StepBatch(
        graph=torch.zeros_like(cursor),
        cursor=cursor,
        stage_start=cursor // 2,
        state=torch.rand(len(cursor), len(STATE_COLUMNS)),
        choices=torch.rand(len(cursor), NUM_ACTIONS, len(CHOICE_COLUMNS)),
    )
    sums = torch.rand(len(cursor), SMALL.width) * cursor[:, None]
    scores, value = network(network.reader.encode(graphs), steps, Decided(sums, sums))
    assert scores.shape == (num_units + 1, NUM_ACTIONS)
    assert value.shape == (num_units + 1, 1)
    assert scores.isfinite().all()
    assert scores.abs().max() < 100


def test_sizes_that_cannot_work_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"network\.width is 0; allowed: 1 or more"):
        NetworkSize(width=0)
    with pytest.raises(
        InvalidInputError, match=r"network\.heads is 3; allowed: a divisor of width"
    ):
        NetworkSize(width=16, heads=3)
    with pytest.raises(UnknownNameError, match="encoder 'gnm': did you mean 'gnn'"):
        NetworkSize(encoder="gnm")
