"""The Gymnasium environment in which an agent plans the memory of one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from remora.envs.actions import UnitAction
from remora.envs.episode import Episode
from remora.envs.features import GraphFeatures, graph_features, unit_edges
from remora.envs.observation import Observation, ObservationSize, observation_space, observe
from remora.envs.sampler import ProblemSampler
from remora.envs.tables import CaseTables
from remora.errors import InvalidInputError

__all__ = ["ScheduleEnv"]


class ScheduleEnv(gymnasium.Env[Observation, np.int64]):
    """Plan, unit by unit, what one training step keeps, recomputes and moves to the host.

    ## Description
    A model is a chain of units (with edges that skip). A step of training must fit a memory budget
    that is too small for keeping every tensor that the backward needs. The agent walks the chain
    once and decides about every unit; the simulator tells what the finished plan costs.

    ## Action space
    `Discrete(6)`, a menu entry of the cursor's unit and what stands after it:

    | value | name | meaning |
    |---|---|---|
    | 0 | KEEP | saved tensors stay on the device |
    | 1 | OFFLOAD | saved tensors wait on the host |
    | 2 | RECOMPUTE | the unit belongs to a recompute group that stays open |
    | 3 | CLOSE | as 2, and the group ends here: one checkpoint, run again as a whole |
    | 4 | CLOSE_NESTED | as 3, with checkpoints inside the group placed by the fill function |
    | 5 | CLOSE_OFFLOADED | as 3, and the group's checkpoint waits on the host |

    How far host copies run ahead (offload window, prefetch distance) is fixed by a rule when the
    episode begins.

    `action_masks()` tells which are allowed: those after which some rung of a fixed ladder of plans
    (from keeping everything to the least memory) completes the decisions to a plan that fits the
    budget. One always is, so no episode ends without a plan that fits. A masked action is replaced
    by the rung's own; `info["replaced"]` tells so.

    ## Observation space
    `Dict` of one-dimensional float32 boxes, padded with zeros to N units and E edges
    (`ObservationSize`); A = 6 decisions. Times are shares of the step that keeps everything, bytes
    shares of what keeping everything takes beyond the least; all are clipped to [-10, 10].

    | key | length | min | max | meaning |
    |---|---|---|---|---|
    | nodes | N x 18 | -10 | 10 | row per unit, columns `features.NODE_FEATURES` |
    | node_mask | N | 0 | 1 | 1 for a unit, 0 for padding |
    | edge_index | 2 x E | 0 | N-1 | from unit, to unit; both directions are listed |
    | edges | E x 3 | -10 | 10 | row per edge, columns `features.EDGE_FEATURES` |
    | edge_mask | E | 0 | 1 | 1 for an edge, 0 for padding |
    | decisions | N x A | 0 | 1 | one-hot decisions so far |
    | cursor | 1 | 0 | N | the unit to decide about |
    | state | 12 | -10 | 10 | budget and progress, `features.STATE_FEATURES` |
    | choices | A x 5 | -10 | 10 | where each decision leads, `features.CHOICE_FEATURES` |
    | action_mask | A | 0 | 1 | as `action_masks()` |

    ## Reward
    With T the simulated step time in seconds, the return of an episode is
    `-log(T(plan) / T(keep all))`, dimensionless, at most 0 up to rounding. It comes as differences
    of a potential, log T of the decisions completed by the first rung that fits: every step pays
    its fall, and the first one pays for the completion of no decisions too. Use a discount of 1.

    ## Starting state
    A case and a budget drawn by the sampler. `reset(options={"case": name, "range": share})` plays
    a given one.

    ## Episode end
    Terminates after the last unit. Never truncates. The last `info` holds `step_time_s`,
    `peak_bytes`, `budget_bytes` and `overhead` (T(plan) / T(keep all) - 1).

    ## Version history
    * v0: one device; keep, offload, recompute groups.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - as gymnasium has it

    def __init__(
        self,
        sampler: ProblemSampler,
        size: ObservationSize | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment.

        Args:
            sampler: draws problems; it carries cost model and fill function.
            size: how far observations are padded.
            render_mode: ``ansi`` or None.

        Raises:
            InvalidInputError: a case has more units or edges than ``size`` allows.
        """
        self.sampler = sampler
        self.size = size or ObservationSize()
        self.render_mode = render_mode
        for tables in sampler.tables:
            _check_size(tables, self.size)
        # A Dict space is annotated with values of any type, not with arrays.
        self.observation_space = cast("spaces.Space[Observation]", observation_space(self.size))
        self.action_space = spaces.Discrete(len(UnitAction))
        self._episode: Episode | None = None
        self._graph: GraphFeatures | None = None

    @property
    def episode(self) -> Episode:
        """The state; read it, do not change it.

        Raises:
            InvalidInputError: ``reset`` was not called.
        """
        if self._episode is None:
            raise InvalidInputError("the environment has no episode; allowed: reset() first")
        return self._episode

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a problem.

        Args:
            seed: of the generator that draws.
            options: ``case`` and ``range`` play a given problem.

        Returns:
            Observation and info.
        """
        super().reset(seed=seed)
        if options:
            self._episode = self.sampler.find(str(options["case"]), float(options["range"]))
        else:
            self._episode = self.sampler.sample(self.np_random)
        self._graph = graph_features(self._episode)
        return self._observation(), self._info(replaced=False)

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Decide about the cursor's unit.

        Returns:
            Observation, reward, terminated, truncated (never), info.
        """
        before = self.episode
        if before.done:
            raise InvalidInputError("the episode is over; allowed: reset() first")
        allowed = bool(before.mask[int(action)])
        after = before.after(int(action) if allowed else before.fallback)
        paid = before.cost if before.cursor else 0.0
        self._episode = after
        reward = float(paid - after.cost)
        return self._observation(), reward, after.done, False, self._info(replaced=not allowed)

    def action_masks(self) -> NDArray[np.bool_]:
        """Decisions that are allowed now.  # [num_actions]."""
        return self.episode.mask.copy()

    def render(self) -> str:
        """Return the decisions so far in words."""
        episode = self.episode
        names = [UnitAction(decision).name for decision in episode.decisions]
        units = episode.tables.problem.graph.units
        lines = [f"{unit.name}: {name}" for unit, name in zip(units, names, strict=False)]
        overhead = np.expm1(episode.cost)
        return "\n".join([*lines, f"completed plan: {overhead:+.1%} over keeping everything"])

    def _observation(self) -> Observation:
        assert self._graph is not None
        return observe(self.episode, self._graph, self.size)

    def _info(self, replaced: bool) -> dict[str, Any]:
        episode = self.episode
        info: dict[str, Any] = {"case": episode.tables.case.name, "replaced": replaced}
        if episode.done:
            info |= {
                "step_time_s": episode.figures.step_time_s,
                "peak_bytes": episode.figures.peak_bytes,
                "budget_bytes": episode.budget_bytes,
                "overhead": float(np.expm1(episode.cost)),
            }
        return info


def _check_size(tables: CaseTables, size: ObservationSize) -> None:
    num_edges = 2 * len(unit_edges(tables.problem.chain))
    for field, value, limit in (
        ("max_units", tables.num_units, size.max_units),
        ("max_edges", num_edges, size.max_edges),
    ):
        if value > limit:
            raise InvalidInputError(
                f"{field} is {limit}; allowed for case {tables.case.name!r}: {value} or more"
            )
