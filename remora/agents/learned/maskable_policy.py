"""The policy network in the shape that sb3-contrib's MaskablePPO trains.

Legend: B decisions, A actions, C context of a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule as LearningRate
from torch import Tensor, nn

from remora.agents.learned.batch import decision_numbers, distinct_graphs, graphs_of, steps_of
from remora.agents.learned.heads import ActionHead, ValueHead
from remora.agents.learned.network import NetworkSize, PlanNetwork, Reader, decided_at

__all__ = ["JointExtractor", "JointPolicy", "Worth", "contexts_of"]

_MASKED = -1e8


def contexts_of(reader: Reader, observations: Mapping[str, Tensor]) -> Tensor:
    """Contexts from nothing but observations; every distinct graph is encoded once.

    Args:
        reader: of a network.
        observations: arrays of the environment, a row per decision.  # {name: [B, length]}

    Returns:
        Contexts.  # [B, C]
    """
    firsts, graph = distinct_graphs(observations)
    encoding = reader.encode(graphs_of(observations, firsts))
    steps = steps_of(observations, graph)
    decisions = decision_numbers(observations, encoding.units.shape[1] - 1)
    before = reader.decided_before(encoding, graph, decisions)
    rows = torch.arange(len(graph), device=graph.device)
    return reader.context(encoding, steps, decided_at(before, rows, steps))


class JointExtractor(BaseFeaturesExtractor):
    """From padded observations to contexts.

    Args:
        observation_space: of the joint environment.
        size: sizes of the network.
    """

    def __init__(self, observation_space: spaces.Space[Any], size: NetworkSize) -> None:
        super().__init__(observation_space, features_dim=size.context)
        self.reader = Reader(size)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Gather contexts.  # {name: [B, length]} -> [B, C]."""
        return contexts_of(self.reader, observations)


class Worth:
    """What a policy is worth beside its rewards: spread, and staying close to a reference.

    Args:
        entropy_weight: of the entropy of decisions.
        reference_weight: of the divergence KL(policy, reference), which is subtracted.
        reference: a trained network; needed if its weight is not 0.
    """

    def __init__(
        self,
        entropy_weight: float = 0.0,
        reference_weight: float = 0.0,
        reference: PlanNetwork | None = None,
    ) -> None:
        self._entropy_weight = entropy_weight
        self._reference_weight = reference_weight
        self._reference = reference

    def __call__(
        self, observations: Mapping[str, Tensor], told: Tensor, masks: Tensor, entropy: Tensor
    ) -> Tensor:
        """Return the worth of every decision.

        Args:
            observations: arrays of the environment.  # {name: [B, length]}
            told: log-probabilities under the policy.  # [B, A]
            masks: what is allowed.  # [B, A]
            entropy: of the policy.  # [B]

        Returns:
            Worth.  # [B]
        """
        worth = self._entropy_weight * entropy
        if self._reference is None or self._reference_weight == 0:
            return worth
        with torch.no_grad():
            contexts = contexts_of(self._reference.reader, observations)
            scores = self._reference.action_head(contexts)
            # Finite, as the training library masks: infinity times no probability has no gradient.
            known = torch.log_softmax(scores.masked_fill(~masks, _MASKED), dim=1)
        divergence = (told.exp() * (told - known)).sum(dim=1)
        return worth - self._reference_weight * divergence


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


class JointPolicy(MaskableActorCriticPolicy):
    """Reader and heads of :class:`PlanNetwork` with the training library's face.

    The training library adds ``ent_coef`` times the entropy that :meth:`evaluate_actions` returns
    to what it maximises; with ``ent_coef`` 1 that place carries whatever :attr:`worth` says.

    Args:
        observation_space: of the joint environment.
        action_space: its actions.
        lr_schedule: learning rate by remaining progress.
        size: values of :class:`NetworkSize`.
        **rest: as the base class takes them.

    Attributes:
        worth: returned in place of the entropy; None for the entropy itself.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: LearningRate,
        size: Mapping[str, Any],
        **rest: Any,
    ) -> None:
        self.size = NetworkSize(**size)
        self.worth: Worth | None = None
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=JointExtractor,
            features_extractor_kwargs={"size": self.size},
            **rest,
        )

    def evaluate_actions(
        self, obs: Any, actions: Tensor, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Judge actions; see the base class.  # [B, 1], [B], [B]."""
        values, told, entropy = super().evaluate_actions(obs, actions, action_masks)
        if self.worth is None or entropy is None or action_masks is None:
            return values, told, entropy
        masks = torch.as_tensor(action_masks, dtype=torch.bool).reshape(len(actions), -1)
        # The base class has just filled the distribution of these observations.
        logits = self.action_dist.distribution.logits  # type: ignore[union-attr]
        return values, told, self.worth(obs, logits, masks, entropy)

    def network(self) -> PlanNetwork:
        """Copy the weights into a network that needs no training library."""
        weights = {
            f"{name}.{inner}": tensor.clone()
            for name, part in self._parts().items()
            for inner, tensor in part.state_dict().items()
        }
        return PlanNetwork.of_weights(self.size, weights)

    def set_network(self, network: PlanNetwork) -> None:
        """Go on from the weights of a network of the same sizes."""
        for name, part in self._parts().items():
            part.load_state_dict(network.get_submodule(name).state_dict())

    def _parts(self) -> dict[str, nn.Module]:
        """Parts of this policy by their names in a network."""
        assert isinstance(self.features_extractor, JointExtractor)
        return {
            "reader": self.features_extractor.reader,
            "action_head": self.action_net,
            "value_head": self.value_net,
        }

    def _build(self, lr_schedule: LearningRate) -> None:
        self.mlp_extractor = _PassThrough(self.features_dim)  # type: ignore[assignment]
        self.action_net = ActionHead(self.size.context, self.size.width)
        self.value_net = ValueHead(  # type: ignore[assignment]
            self.size.context, self.size.width
        )
        values = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **values)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        for name in ("features_extractor_class", "features_extractor_kwargs"):
            del parameters[name]
        return {**parameters, "size": self.size.as_dict()}
