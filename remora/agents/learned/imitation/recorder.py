"""Plays demonstrations again and keeps what they show, so that no epoch has to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from remora.agents.learned.imitation.lesson import Demonstration, Explored, Lesson, Teaching
from remora.agents.learned.imitation.recordings import Recordings
from remora.agents.learned.imitation.shape_targets import SHAPE_PHASES, shape_target
from remora.agents.learned.playing import exact_size
from remora.envs.actions import NUM_ACTIONS, Phase
from remora.envs.batch import EpisodeBatch
from remora.envs.observation import JointSize
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["Emphasis", "record"]

_STATIC = ("nodes", "node_mask", "edge_index", "edges", "edge_mask", "state")
_LEAST_WEIGHT = 1e-3
"""An episode that counts less is not played at all."""

_TOGETHER = 64
"""Episodes that are played side by side."""


@dataclass(frozen=True, slots=True)
class Emphasis:
    """What counts how much.

    Attributes:
        regret: log of the step time over the best known one at which an episode counts e times
            less than the best one.
        shape_regret: the same for how likely ranks, kinds and micro-batches should be.
        shape_weight: of a step that decides about those, against one that decides about a unit.
        outcome: the same as ``regret`` for the actions of an explored step: how likely each should
            be follows from what it led to.
        matter: a step of which the actions lead to costs so far apart, in the mean over the least,
            counts in full; one where they differ less counts less.
    """

    regret: float = 0.03
    shape_regret: float = 0.02
    shape_weight: float = 4.0
    outcome: float = 0.01
    matter: float = 0.02

    def __post_init__(self) -> None:
        for name in ("regret", "shape_regret", "shape_weight", "outcome", "matter"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidInputError(f"emphasis.{name} is {value}; allowed: more than 0")

    def weight(self, lesson: Lesson, one: Demonstration) -> float:
        """How much a demonstration counts, 1 for the best one known."""
        if not math.isfinite(lesson.best_s):
            return 1.0
        return math.exp(-math.log(one.step_time_s / lesson.best_s) / self.regret)

    def of_outcomes(self, costs: NDArray[np.float64]) -> tuple[NDArray[np.float32], float] | None:
        """How likely the actions of a step should be, and how much that counts.

        Args:
            costs: of its actions; infinity for what was not tried.  # [A]

        Returns:
            Probabilities and a weight; None if fewer than two actions were tried.  # [A]
        """
        tried = np.isfinite(costs)
        if tried.sum() < 2:
            return None
        above = costs - costs[tried].min()
        odds = np.exp(-above / self.outcome)
        weight = min(1.0, float(above[tried].mean()) / self.matter)
        return np.asarray(odds / odds.sum(), dtype=np.float32), weight


@dataclass
class _Track:
    """What one episode showed so far; lists by step."""

    lesson: int
    decisions: NDArray[np.int64]
    cursor: list[NDArray[np.float32]]
    state: list[NDArray[np.float32]]
    choices: list[NDArray[np.float32]]
    mask: list[NDArray[np.bool_]]
    targets: list[NDArray[np.float32]]
    weights: list[float]
    rewards: list[float]
    phases: list[Phase]


def record(teaching: Teaching, emphasis: Emphasis | None = None) -> Recordings:
    """Play demonstrations again; those that count next to nothing are left out.

    Args:
        teaching: lessons and demonstrations.
        emphasis: what counts how much.

    Raises:
        InvalidInputError: there is no demonstration, or one does what is not allowed or ends in
            another step time than it says.
    """
    if not teaching.shown and not teaching.explored:
        raise InvalidInputError("demonstrations are empty; allowed: at least one")
    emphasis = emphasis or Emphasis()
    size = exact_size([lesson.tables for lesson in teaching.lessons])
    static: list[dict[str, NDArray[np.float32]]] = []
    tracks: list[_Track] = []
    for number, lesson in enumerate(teaching.lessons):
        recorder = _Recorder(number, lesson, size, emphasis)
        static.append(recorder.static())
        weighed = [(emphasis.weight(lesson, one), one) for one in teaching.of(lesson)]
        shown = [one for weight, one in weighed if weight >= _LEAST_WEIGHT]
        for first in range(0, len(shown), _TOGETHER):
            tracks += recorder.play(shown[first : first + _TOGETHER])
        explored = [one for one in teaching.explored if one.episode.lesson == lesson.name]
        for first in range(0, len(explored), _TOGETHER):
            tracks += recorder.play_explored(explored[first : first + _TOGETHER])
    return _joined(static, tracks)


class _Recorder:
    """Plays the demonstrations of one lesson."""

    def __init__(self, number: int, lesson: Lesson, size: JointSize, emphasis: Emphasis) -> None:
        self._number = number
        self._lesson = lesson
        self._size = size
        self._emphasis = emphasis
        self._sampler = JointSampler([lesson.tables])

    def static(self) -> dict[str, NDArray[np.float32]]:
        """What stays the same; of the state only columns that no action changes are meant."""
        shown = self._batch(1).observations()
        return {name: shown[name][0].copy() for name in _STATIC}

    def play(self, shown: Sequence[Demonstration]) -> list[_Track]:
        """Play some demonstrations side by side."""
        batch = self._batch(len(shown))
        tracks = [self._track() for _ in shown]
        for step in range(max(len(one.actions) for one in shown)):
            actions = np.zeros(len(shown), dtype=np.int64)
            going = [place for place, one in enumerate(shown) if step < len(one.actions)]
            for place in going:
                actions[place] = shown[place].actions[step]
                self._note(batch, place, shown[place], int(actions[place]), tracks[place])
            outcome = batch.step(actions)
            for place in going:
                _check(shown[place], step, bool(outcome.replaced[place]))
                tracks[place].rewards.append(float(outcome.rewards[place]))
        for place, one in enumerate(shown):
            _check_end(batch, place, one)
        return tracks

    def play_explored(self, explored: Sequence[Explored]) -> list[_Track]:
        """Play some explored episodes; what is learned from a step is what its actions led to.

        Ranks, kind and micro-batches are learned from what is known of them in any case.
        """
        tracks = self.play([one.episode for one in explored])
        for one, track in zip(explored, tracks, strict=True):
            for step, costs in enumerate(one.costs):
                found = self._emphasis.of_outcomes(costs)
                track.weights[step] = 0.0
                if track.phases[step] in SHAPE_PHASES:
                    target = self._shape_target(one.episode, track, step)
                    found = None if target is None else (target, self._emphasis.shape_weight)
                if found is not None:
                    track.targets[step], track.weights[step] = found
        return tracks

    def _batch(self, count: int) -> EpisodeBatch:
        batch = EpisodeBatch(self._sampler, count, self._size)
        for place in range(count):
            batch.begin(place, 0, self._lesson.budget_bytes)
        return batch

    def _track(self) -> _Track:
        decisions = np.full(self._size.max_units, -1, dtype=np.int64)
        return _Track(self._number, decisions, [], [], [], [], [], [], [], [])

    def _note(
        self, batch: EpisodeBatch, place: int, one: Demonstration, action: int, track: _Track
    ) -> None:
        seen, phase, mask = batch.observations(), batch.phase(place), batch.masks[place]
        track.phases.append(phase)
        track.cursor.append(seen["cursor"][place].copy())
        track.state.append(seen["state"][place].copy())
        track.choices.append(seen["choices"][place].copy())
        track.mask.append(mask.copy())
        if phase is Phase.UNITS:
            track.decisions[len(batch.decisions(place))] = action
        weight = self._emphasis.weight(self._lesson, one)
        target = None
        if phase in SHAPE_PHASES:
            weight *= self._emphasis.shape_weight
            target = self._shape_target(one, track, len(track.phases) - 1)
        track.targets.append(_certain(action) if target is None else target)
        track.weights.append(weight)

    def _shape_target(
        self, one: Demonstration, track: _Track, step: int
    ) -> NDArray[np.float32] | None:
        return shape_target(
            self._lesson.tables,
            self._lesson.shape_times,
            one.shape,
            track.phases[step],
            track.mask[step],
            self._emphasis.shape_regret,
        )


def _certain(action: int) -> NDArray[np.float32]:
    target = np.zeros(NUM_ACTIONS, dtype=np.float32)
    target[action] = 1.0
    return target


def _check(one: Demonstration, step: int, replaced: bool) -> None:
    if replaced:
        raise InvalidInputError(
            f"a demonstration of {one.lesson!r} does action {one.actions[step]} in step {step}; "
            "allowed: what its mask allows"
        )


def _check_end(batch: EpisodeBatch, place: int, one: Demonstration) -> None:
    ended, seconds = batch.phase(place) is Phase.DONE, batch.step_time_s(place)
    if not ended or not math.isclose(seconds, one.step_time_s, rel_tol=1e-6):
        raise InvalidInputError(
            f"a demonstration of {one.lesson!r} says step_time_s={one.step_time_s}; allowed: that "
            f"of a whole episode of its actions, here {seconds if ended else 'unfinished'}"
        )


def _joined(static: Sequence[dict[str, NDArray[np.float32]]], tracks: list[_Track]) -> Recordings:
    lengths = [len(track.weights) for track in tracks]
    returns = [np.cumsum(track.rewards[::-1])[::-1] for track in tracks]
    cursor = np.array([row for track in tracks for row in track.cursor])
    return Recordings(
        static={name: torch.from_numpy(np.array([s[name] for s in static])) for name in _STATIC},
        lesson=torch.tensor([track.lesson for track in tracks]),
        starts=torch.from_numpy(np.cumsum([0, *lengths])),
        decisions=torch.from_numpy(np.array([track.decisions for track in tracks])),
        cursor=torch.from_numpy(cursor.round().astype(np.int64)),
        state=torch.from_numpy(np.array([row for track in tracks for row in track.state])),
        choices=torch.from_numpy(np.array([row for track in tracks for row in track.choices])),
        mask=torch.from_numpy(np.array([row for track in tracks for row in track.mask])),
        targets=torch.from_numpy(np.array([row for track in tracks for row in track.targets])),
        weights=torch.tensor([weight for track in tracks for weight in track.weights]),
        returns=torch.from_numpy(np.concatenate(returns).astype(np.float32)),
    )
