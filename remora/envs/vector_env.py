"""Many joint environments stepped by one compiled call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from remora.envs.actions import NUM_ACTIONS
from remora.envs.batch import EpisodeBatch
from remora.envs.infos import final_info
from remora.envs.observation import JointSize, Observation, observation_space
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["JointVectorEnv"]

Actions = NDArray[np.int64]


class JointVectorEnv(gymnasium.vector.VectorEnv[Observation, Actions, NDArray[Any]]):
    """As so many :class:`JointEnv`, with the same observations, rewards and masks.

    An episode that ends is followed by the next one in the same step: the observation is the
    first of the new episode, and ``info["final_info"]`` holds, by place, what the last ``info`` of
    a :class:`JointEnv` would; ``info["_final_info"]`` tells where.

    Args:
        sampler: draws problems; they carry the cost model.
        num_envs: number of environments.
        size: how far observations are padded.
        copy: whether observations are the caller's own; if not, they change with the next step.

    Raises:
        InvalidInputError: a problem is larger than ``size``, or there is no environment.
    """

    def __init__(
        self,
        sampler: JointSampler,
        num_envs: int,
        size: JointSize | None = None,
        copy: bool = True,
    ) -> None:
        if num_envs < 1:
            raise InvalidInputError(f"num_envs is {num_envs}; allowed: 1 or more")
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        self.sampler = sampler
        self.num_envs = num_envs
        self.size = size or JointSize()
        self._copy = copy
        self._batch = EpisodeBatch(sampler, num_envs, self.size)
        single = observation_space(self.size)
        self.single_observation_space = cast("spaces.Space[Observation]", single)
        self.single_action_space = cast("spaces.Space[Actions]", spaces.Discrete(NUM_ACTIONS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random(None)[0] for _ in range(num_envs)]

    @property
    def batch(self) -> EpisodeBatch:
        """The state; read it, do not change it."""
        return self._batch

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode everywhere.

        Args:
            seed: environment i gets ``seed + i``, or the i-th of several; None goes on.
            options: not used.

        Returns:
            Observations and an empty info.
        """
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        for place in range(self.num_envs):
            own = None if seeds is None else seeds[place]
            if own is not None:
                self._generators[place] = seeding.np_random(own)[0]
            self._begin(place)
        return self._observations(), {}

    def step(
        self, actions: Actions
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Decide everywhere.

        Args:
            actions: one per environment.  # [num_envs]

        Returns:
            Observations, rewards, terminated, truncated (never), info.
        """
        outcome = self._batch.step(np.asarray(actions, dtype=np.int64))
        info: dict[str, Any] = {"replaced": outcome.replaced}
        if outcome.ended.any():
            found = np.full(self.num_envs, None, dtype=object)
            for place in np.flatnonzero(outcome.ended).tolist():
                found[place] = final_info(self._batch, place)
                self._begin(place)
            info |= {"final_info": found, "_final_info": outcome.ended}
        never = np.zeros(self.num_envs, dtype=np.bool_)
        return self._observations(), outcome.rewards, outcome.ended, never, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Actions that are allowed now.  # [num_envs, num_actions]."""
        return self._batch.masks.copy()

    def _begin(self, place: int) -> None:
        self._batch.begin(place, *self.sampler.sample(self._generators[place]))

    def _observations(self) -> Observation:
        shown = self._batch.observations()
        return {name: values.copy() for name, values in shown.items()} if self._copy else shown
