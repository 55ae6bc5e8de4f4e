"""The policy inside the training library scores as the network does outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from remora.agents.learned.maskable_policy import JointPolicy, Worth
from remora.agents.learned.playing import Player
from remora.agents.learned.vec_env import JointVecEnv
from tests.agents.learned.policies import SMALL, begun, opinionated, random_actions, shown
from tests.envs.problems import SIZE, sampler_of


@pytest.fixture(scope="module")
def policy() -> JointPolicy:
    env = JointVecEnv(sampler_of("toy"), 2, SIZE)
    model = MaskablePPO(
        JointPolicy, env, 8, n_steps=4, batch_size=4, policy_kwargs={"size": SMALL.as_dict()}
    )
    assert isinstance(model.policy, JointPolicy)
    model.policy.set_network(opinionated())
    return model.policy


def test_it_scores_as_the_network_does(policy: JointPolicy) -> None:
    batch, generator = begun(4), np.random.default_rng(0)
    player = Player(policy.network(), batch)
    for _ in range(8):
        player.act(random_actions(batch, generator))
        with torch.no_grad():
            told = policy.get_distribution(shown(batch), batch.masks).distribution.logits
        mine = torch.where(torch.from_numpy(batch.masks), told, -torch.inf)
        assert torch.allclose(mine, player.log_probabilities(), atol=1e-4)


def test_a_network_goes_in_and_comes_out_unchanged(policy: JointPolicy) -> None:
    before = torch.get_rng_state()
    network = policy.network()
    assert torch.equal(before, torch.get_rng_state())
    policy.set_network(opinionated(3))
    assert not torch.equal(network.value_head.layers[0].weight, policy.value_net.layers[0].weight)
    policy.set_network(network)
    for name, weight in policy.network().state_dict().items():
        assert torch.equal(weight, network.state_dict()[name]), name


@pytest.mark.parametrize("seed", [0, 1])
def test_worth_is_spread_less_distance_from_the_reference(policy: JointPolicy, seed: int) -> None:
    batch, generator = begun(4), np.random.default_rng(2)
    for _ in range(6):
        batch.step(random_actions(batch, generator))
    observations, masks = shown(batch), torch.from_numpy(batch.masks.copy())
    actions = masks.int().argmax(dim=1)
    policy.worth = None
    _, _, entropy = policy.evaluate_actions(observations, actions, masks)
    policy.worth = Worth(0.5, 2.0, opinionated(seed))
    _, _, worth = policy.evaluate_actions(observations, actions, masks)
    policy.worth = None
    assert entropy is not None
    assert worth is not None
    worth.sum().backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in policy.parameters())
    told = policy.get_distribution(observations, masks.numpy()).distribution.logits
    policy.set_network(opinionated(seed))
    known = policy.get_distribution(observations, masks.numpy()).distribution.logits
    policy.set_network(opinionated())
    divergence = (told.exp() * (told - known)).sum(dim=1)
    assert torch.allclose(worth, 0.5 * entropy - 2.0 * divergence, atol=1e-5)
    assert (float(divergence.detach().abs().max()) < 1e-5) == (seed == 0)
