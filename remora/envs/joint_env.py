"""The Gymnasium environment in which an agent decides about everything that one device allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from remora.envs.actions import NUM_ACTIONS, Phase, decision_name
from remora.envs.batch import EpisodeBatch
from remora.envs.infos import final_info
from remora.envs.observation import JointSize, Observation, observation_space
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["JointEnv"]


class JointEnv(gymnasium.Env[Observation, np.int64]):
    """Plan how one training step fits a memory budget: settings first, then unit by unit.

    ## Description
    A model is a chain of units (with edges that skip). A step of training must fit a memory budget
    that is too small for keeping every tensor that the backward needs. The agent first decides
    on how many ranks a pipeline runs, of which kind it is, how the batch is cut, where the state
    lives and how far host copies run ahead, then walks the chain once: the menu entry of every
    unit, where recompute groups end, and where stages of the pipeline do.

    On one device the phases of ranks and kind are skipped.

    Passes of inference are planned by the same actions: there are pipelines of one kind and no
    state, and the entries of a unit's menu say what waits on the host between its uses: its
    weights, its keys and values, or both.

    ## Action space
    `Discrete(24)`. What a number means depends on the phase, which `state` shows; a phase with
    one choice is skipped.

    | phase | value | meaning |
    |---|---|---|
    | ranks | k | the k-th largest divisor of the world size: ranks of one pipeline |
    | kind | k | `actions.KINDS[k]`: kind of the pipeline, chunks per rank |
    | micro-batches | k | the k-th number of micro-batches of the problem |
    | state | k | `actions.STATES[k]`: where the state lives, and how replicas share it |
    | pace | k | `actions.PACES[k]`: offload window, prefetch distance |
    | unit | 0 | KEEP: saved tensors stay on the device |
    | unit | 1 | OPEN: the unit belongs to a recompute group that goes on |
    | unit | 2 | CLOSE: the group ends here: one checkpoint, run again as a whole |
    | unit | 3 | CLOSE_NESTED: as 2, and run again to keep every unit's input, then unit by unit |
    | unit | 4 | CLOSE_OFFLOADED: as 2, and the group's checkpoint waits on the host |
    | unit | 5 + k | the k-th other entry of the unit's menu: offload, or mixed actions |
    | unit of a pass | 5, 6, 7 | its weights, its cache, or both wait on the host |
    | unit | 12 + d | decision d, and a stage of the pipeline ends after the unit |

    `action_masks()` tells which are allowed: those that can still be completed, by groups of
    least memory, to a plan within the budget. That is judged by upper bounds, so a masked plan may
    fit, but an allowed action never leads to a dead end. In a pass it is judged by simulating the
    plan with everything on the host that is not decided yet. A masked action is replaced by the
    allowed one that leaves most memory; `info["replaced"]` tells so.

    ## Observation space
    `Dict` of one-dimensional float32 boxes, padded with zeros to N units and E edges
    (`JointSize`); A = 24 actions. Times are shares of the step that keeps everything (single units
    tenfold), bytes shares of what keeping everything takes beyond the least budget; all are
    clipped to [-10, 10].

    | key | length | min | max | meaning |
    |---|---|---|---|---|
    | nodes | N x 17 | -10 | 10 | row per unit, columns `graphs.NODE_COLUMNS` |
    | node_mask | N | 0 | 1 | 1 for a unit, 0 for padding |
    | edge_index | 2 x E | 0 | N-1 | from unit, to unit; both directions are listed |
    | edges | E x 3 | -10 | 10 | row per edge, columns `graphs.EDGE_COLUMNS` |
    | edge_mask | E | 0 | 1 | 1 for an edge, 0 for padding |
    | decisions | N x A | 0 | 1 | one-hot decisions about units so far |
    | cursor | 2 | 0 | N | the unit to decide about, the first unit of its stage |
    | state | 41 | -10 | 10 | budget, progress, settings, phase; `arrays.STATE_COLUMNS` |
    | choices | A x 6 | -10 | 10 | where each action leads, `arrays.CHOICE_COLUMNS` |
    | action_mask | A | 0 | 1 | as `action_masks()` |

    ## Reward
    With T the step time in seconds, the return of an episode is `-log(T(plan) / T(keep all))`,
    dimensionless. It comes as differences of a potential, the log of a lower bound on the step
    times of all completions (what is decided so far on the busiest stream), and of T itself at the
    end; before the first step the potential is log T(keep all). Use a discount of 1.

    ## Starting state
    A problem and a budget drawn by the sampler. `reset(options={"problem": name, "range": share})`
    plays a given one.

    ## Episode end
    Terminates after the last unit. Never truncates. The last `info` holds `step_time_s`,
    `budget_bytes`, `overhead` (T(plan) / T(keep all) - 1) and the `schedule`.

    ## Version history
    * v0: pipelines, micro-batches, state, pace, mixed options, groups and cuts.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - as gymnasium has it

    def __init__(
        self, sampler: JointSampler, size: JointSize | None = None, render_mode: str | None = None
    ) -> None:
        """Make the environment.

        Args:
            sampler: draws problems; they carry the cost model.
            size: how far observations are padded.
            render_mode: ``ansi`` or None.

        Raises:
            InvalidInputError: a problem has more units or edges than ``size`` allows.
        """
        self.sampler = sampler
        self.size = size or JointSize()
        self.render_mode = render_mode
        self._batch = EpisodeBatch(sampler, 1, self.size)
        # A Dict space is annotated with values of any type, not with arrays.
        self.observation_space = cast("spaces.Space[Observation]", observation_space(self.size))
        self.action_space = spaces.Discrete(NUM_ACTIONS)

    @property
    def batch(self) -> EpisodeBatch:
        """The state, a batch of one episode; read it, do not change it."""
        return self._batch

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a problem.

        Args:
            seed: of the generator that draws.
            options: ``problem`` and ``range`` play a given one.

        Returns:
            Observation and info.
        """
        super().reset(seed=seed)
        if options:
            drawn = self.sampler.find(str(options["problem"]), float(options["range"]))
        else:
            drawn = self.sampler.sample(self.np_random)
        self._batch.begin(0, *drawn)
        return self._observation(), self._info(replaced=False)

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Decide.

        Returns:
            Observation, reward, terminated, truncated (never), info.

        Raises:
            InvalidInputError: there is no episode, or it is over.
        """
        if self._batch.phase(0) is Phase.DONE:
            raise InvalidInputError("the episode is over or none began; allowed: reset() first")
        outcome = self._batch.step(np.array([action], dtype=np.int64))
        info = self._info(bool(outcome.replaced[0]))
        if outcome.ended[0]:
            info |= final_info(self._batch, 0)
        reward, ended = float(outcome.rewards[0]), bool(outcome.ended[0])
        return self._observation(), reward, ended, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Actions that are allowed now.  # [num_actions]."""
        masks: NDArray[np.bool_] = self._batch.masks[0].copy()
        return masks

    def render(self) -> str:
        """Return the decisions so far in words."""
        problem, setting = self._batch.problem(0), self._batch.setting(0)
        lines = [f"{setting.micro_batches} micro-batches, window {setting.window}"]
        decisions = self._batch.decisions(0)
        for unit, decision in zip(problem.problem.graph.units, decisions, strict=False):
            lines.append(f"{unit.name}: {decision_name(decision)}")
        return "\n".join(lines)

    def _observation(self) -> Observation:
        return {name: values[0].copy() for name, values in self._batch.observations().items()}

    def _info(self, replaced: bool) -> dict[str, Any]:
        return {"problem": self._batch.problem(0).name, "replaced": replaced}
