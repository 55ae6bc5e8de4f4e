"""The policy network in the shape that sb3-contrib's MaskablePPO trains.

Legend: B episodes, C context of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule as LearningRate
from torch import Tensor, nn

from remora.agents.learned.batch import graphs_of_observations, states_of_observations
from remora.agents.learned.network import (
    ActionHead,
    NetworkSize,
    PlanNetwork,
    UnitEncoder,
    ValueHead,
)

__all__ = ["PlanPolicy", "network_of_policy"]


class PlanExtractor(BaseFeaturesExtractor):
    """From padded observations to the contexts of their episodes.

    Args:
        observation_space: the space of ``remora.envs.observation``.
        size: sizes of the network.
    """

    def __init__(self, observation_space: spaces.Space[Any], size: NetworkSize) -> None:
        super().__init__(observation_space, features_dim=size.context)
        self.encoder = UnitEncoder(size)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Encode observations.  # {name: [B, length]} -> [B, C]."""
        context: Tensor = self.encoder(
            graphs_of_observations(observations), states_of_observations(observations)
        )
        return context


class _PassThrough(nn.Module):
    """Hands the context to both heads, which do the rest themselves."""

    def __init__(self, features_dim: int) -> None:
        super().__init__()
        self.latent_dim_pi = features_dim
        self.latent_dim_vf = features_dim

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return context, context

    def forward_actor(self, context: Tensor) -> Tensor:
        return context

    def forward_critic(self, context: Tensor) -> Tensor:
        return context


class PlanPolicy(MaskableActorCriticPolicy):
    """Encoder and heads of :class:`PlanNetwork` with the training library's face.

    Args:
        observation_space: the space of ``remora.envs.observation``.
        action_space: decisions of a unit.
        lr_schedule: learning rate by remaining progress.
        size: sizes of the network.
        **rest: as the base class takes them.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: LearningRate,
        size: Mapping[str, int],
        **rest: Any,
    ) -> None:
        self.size = NetworkSize(**size)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=PlanExtractor,
            features_extractor_kwargs={"size": self.size},
            **rest,
        )

    def _build(self, lr_schedule: LearningRate) -> None:
        self.mlp_extractor = _PassThrough(self.features_dim)  # type: ignore[assignment]
        self.action_net = ActionHead(self.size)
        self.value_net = ValueHead(self.size)  # type: ignore[assignment]
        values = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **values)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        for name in ("features_extractor_class", "features_extractor_kwargs"):
            del parameters[name]
        return {**parameters, "size": self.size.as_dict()}


def network_of_policy(policy: PlanPolicy) -> PlanNetwork:
    """Copy the trained weights into a network that needs no training library."""
    network = PlanNetwork(policy.size)
    assert isinstance(policy.features_extractor, PlanExtractor)
    network.encoder.load_state_dict(policy.features_extractor.encoder.state_dict())
    network.action_head.load_state_dict(policy.action_net.state_dict())
    network.value_head.load_state_dict(policy.value_net.state_dict())
    return network.eval()
