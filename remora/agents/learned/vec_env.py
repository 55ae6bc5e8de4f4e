"""Joint episodes in the shape that stable-baselines3 trains on.

Legend: E episodes, A actions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from remora.envs.actions import NUM_ACTIONS
from remora.envs.batch import EpisodeBatch
from remora.envs.observation import JointSize, Observation, observation_space
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["JointVecEnv", "VecEnvState"]


@dataclass(frozen=True)
class VecEnvState:
    """Where all episodes and the generators of their problems stand.

    Attributes:
        episodes: of :meth:`EpisodeBatch.snapshot`.
        generators: states of numpy's generators, as plain values.  # [E]
        owed: rewards that are paid when an episode ends.  # [E]
    """

    episodes: list[NDArray[Any]]
    generators: list[dict[str, Any]]
    owed: NDArray[np.float64]


class JointVecEnv(VecEnv):
    """As so many :class:`JointEnv`, stepped by one compiled call; no object per episode.

    An episode that ends is followed by the next one in the same step; the last ``info`` holds its
    ``cost``, the log of its step time over that of keeping everything.

    Args:
        sampler: draws problems; they carry the cost model.
        num_envs: number of episodes side by side.
        size: how far observations are padded.
        seed: of the first episode's draws; the others follow.
        shaping: whether every decision brings what it changes in the bound on the step time;
            else the last one brings all of it.

    Raises:
        InvalidInputError: a problem is larger than ``size``, or there is no environment.
    """

    def __init__(
        self,
        sampler: JointSampler,
        num_envs: int,
        size: JointSize | None = None,
        seed: int = 0,
        shaping: bool = True,
    ) -> None:
        if num_envs < 1:
            raise InvalidInputError(f"num_envs is {num_envs}; allowed: 1 or more")
        self.sampler = sampler
        size = size or JointSize()
        self._batch = EpisodeBatch(sampler, num_envs, size)
        self._actions = np.zeros(num_envs, dtype=np.int64)
        self._costs: list[float] = []
        self._shaping = shaping
        self._owed = np.zeros(num_envs)
        self._shared = {"render_mode": None, "action_masks": self.action_masks}
        super().__init__(num_envs, observation_space(size), spaces.Discrete(NUM_ACTIONS))
        self._generators = [np.random.default_rng(seed + place) for place in range(num_envs)]

    @property
    def batch(self) -> EpisodeBatch:
        """The state; read it, do not change it."""
        return self._batch

    def reset(self) -> Observation:
        """Begin an episode everywhere.  # {name: [E, length]}."""
        for place, seed in enumerate(self._seeds):
            if seed is not None:
                self._generators[place] = np.random.default_rng(seed)
            self._begin(place)
        self._owed[:] = 0.0
        self._reset_seeds()
        return self._observations()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take note of actions.  # [E]."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Take them.

        Returns:
            Observations, rewards, ended, infos.
        """
        outcome = self._batch.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for place in np.flatnonzero(outcome.ended).tolist():
            keep_all_s = self._batch.problem(place).keep_all_s
            cost = math.log(self._batch.step_time_s(place) / keep_all_s)
            last = self._batch.observations()
            shown = {name: values[place].copy() for name, values in last.items()}
            infos[place] = {"cost": cost, "terminal_observation": shown}
            self._costs.append(cost)
            self._begin(place)
        rewards = self._paid(outcome.rewards, outcome.ended)
        return self._observations(), rewards, outcome.ended.copy(), infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Actions that are allowed now.  # [E, A]."""
        return self._batch.masks.copy()

    def take_costs(self) -> list[float]:
        """Costs of the episodes that ended since the last call."""
        costs, self._costs = self._costs, []
        return costs

    def get_state(self) -> VecEnvState:
        """Where everything stands, for :meth:`set_state`."""
        states = [dict(generator.bit_generator.state) for generator in self._generators]
        return VecEnvState(self._batch.snapshot(), states, self._owed.copy())

    def set_state(self, state: VecEnvState) -> Observation:
        """Go on from an earlier state; returns what is shown there.  # {name: [E, length]}."""
        self._batch.restore(state.episodes)
        self._owed[:] = state.owed
        for generator, values in zip(self._generators, state.generators, strict=True):
            generator.bit_generator.state = values
        return self._observations()

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The same of every episode.

        Raises:
            AttributeError: there is no such attribute.
        """
        if attr_name not in self._shared:
            raise AttributeError(attr_name)
        return [self._shared[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse; episodes have no attributes of their own.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"{attr_name} cannot be set")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **values: Any
    ) -> list[Any]:
        """The masks of episodes; they have no other method.  # [indices][A].

        Raises:
            AttributeError: another method is asked for.
        """
        if method_name != "action_masks":
            raise AttributeError(method_name)
        masks = self.action_masks()
        return [masks[place] for place in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No episode is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def _paid(self, rewards: NDArray[np.float64], ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What is paid now of what the step brought.  # [E]."""
        if self._shaping:
            return rewards.astype(np.float32)
        self._owed += rewards
        paid = np.where(ended, self._owed, 0.0)
        self._owed[ended] = 0.0
        return paid.astype(np.float32)

    def _begin(self, place: int) -> None:
        self._batch.begin(place, *self.sampler.sample(self._generators[place]))

    def _observations(self) -> Observation:
        return {name: values.copy() for name, values in self._batch.observations().items()}
