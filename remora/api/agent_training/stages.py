"""The stages of a training, each with a folder of its own, so that a stopped one can go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from remora.agents.learned.imitation.cloning import CHECKPOINT_NAME as CLONING_CHECKPOINT
from remora.agents.learned.imitation.cloning import CloningConfig, clone_policy
from remora.agents.learned.imitation.demonstration_files import (
    read_demonstrations,
    write_demonstrations,
)
from remora.agents.learned.imitation.explored_files import (
    EXPLORED_NAME,
    read_explored,
    write_explored,
)
from remora.agents.learned.imitation.lesson import Teaching
from remora.agents.learned.imitation.lookahead import look_ahead
from remora.agents.learned.imitation.rounds import improve_demonstrations
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.policy_files import Policy, load_policy, save_policy
from remora.agents.learned.ppo import CHECKPOINT_NAME as PPO_CHECKPOINT
from remora.agents.learned.ppo import train_ppo
from remora.agents.learned.selection import Validation
from remora.api.agent_training.config import AgentTrainingConfig
from remora.api.agent_training.stage_tracker import StageTracker
from remora.envs.sampler import JointSampler
from remora.report.files import read_json, write_json
from remora.tracking.tracker import Tracker

__all__ = ["Material", "run_stages"]

_DONE = "done.json"
_POLICY = "policy"
_DEMONSTRATIONS = "demonstrations.json"
_VERSION = 1


@dataclass(frozen=True)
class Material:
    """What the stages work with.

    Attributes:
        teaching: problems with plans of them.
        sampler: draws problems of episodes.
        validation: what checkpoints are chosen by.
    """

    teaching: Teaching
    sampler: JointSampler
    validation: Validation


def run_stages(
    config: AgentTrainingConfig,
    material: Material,
    out: Path,
    tracker: Tracker,
    resume: bool,
    tell: Callable[[str], None] = lambda text: None,
) -> Policy:
    """Run the stages that are not done yet; each goes on from the best policy of the one before.

    Args:
        config: which, and how.
        material: what they work with.
        out: folder; each stage has a folder in it.
        tracker: a started tracker.
        resume: go on where an earlier run of the same configuration stopped.
        tell: called with a few words when a stage begins.

    Returns:
        The policy of least regret on the validation problems.
    """
    best = None if config.start is None else load_policy(Path(config.start))
    first = 0
    for name, run in _runs(config):
        folder = out / name
        done = folder / _DONE
        if resume and done.is_file():
            best, first = (
                load_policy(folder / _POLICY),
                int(read_json(done, "stage", _VERSION)["steps"]),
            )
            continue
        tell(name)
        stage = StageTracker(tracker, name, first)
        network = None if best is None else best.network
        best = run(_Turn(material, folder, stage, network, resume))
        save_policy(folder / _POLICY, best)
        first = stage.last + 1
        write_json(done, {"version": _VERSION, "steps": first})
    assert best is not None  # there is at least one stage
    return best


@dataclass(frozen=True)
class _Turn:
    """What a stage is given.

    Attributes:
        material: to learn from.
        folder: of the stage.
        tracker: told how it goes.
        network: to go on from; None for the first stage of a training from scratch.
        resume: whether what lies in the folder is gone on with.
    """

    material: Material
    folder: Path
    tracker: Tracker
    network: PlanNetwork | None
    resume: bool

    def has(self, name: str) -> bool:
        """Whether the stage begun before left such a file."""
        return self.resume and (self.folder / name).is_file()


_Run = Callable[[_Turn], Policy]


def _runs(config: AgentTrainingConfig) -> list[tuple[str, _Run]]:
    """Names and bodies of the stages; every round of self-imitation is one."""
    runs: list[tuple[str, _Run]] = []
    for stage in config.stages:
        if stage == "cloning":
            runs.append((stage, _cloning(config.cloning)))
        elif stage == "lookahead":
            runs += [
                (f"lookahead_{number}", _lookahead(config, number))
                for number in range(config.lookahead.count)
            ]
        elif stage == "ppo":
            runs.append((stage, _ppo(config)))
        else:
            runs += [
                (f"round_{number}", _round(config, number)) for number in range(config.rounds.count)
            ]
    return runs


def _cloned(
    turn: _Turn, teaching: Teaching, values: CloningConfig, network: PlanNetwork | None
) -> Policy:
    return clone_policy(
        teaching,
        turn.material.validation,
        values,
        turn.folder,
        turn.tracker,
        network,
        resume=turn.has(CLONING_CHECKPOINT),
    )


def _cloning(config: CloningConfig) -> _Run:
    def run(turn: _Turn) -> Policy:
        return _cloned(turn, turn.material.teaching, config, turn.network)

    return run


def _ppo(config: AgentTrainingConfig) -> _Run:
    def run(turn: _Turn) -> Policy:
        values = config.ppo
        if turn.network is None:
            values = replace(values, reference_weight=0.0)
        return train_ppo(
            turn.material.sampler,
            turn.material.validation,
            values,
            turn.folder,
            turn.tracker,
            turn.network,
            resume=turn.has(PPO_CHECKPOINT),
        )

    return run


def _lookahead(config: AgentTrainingConfig, number: int) -> _Run:
    """What was tried in a round is kept, so that a stopped round does not try it again."""

    def run(turn: _Turn) -> Policy:
        rounds, lessons = config.lookahead, turn.material.teaching
        network = turn.network or PlanNetwork.fresh(config.cloning.network, config.seed)
        if not turn.has(EXPLORED_NAME):
            look = replace(rounds.look, shown=max(rounds.look.shown, 1), own=0)
            look = rounds.look if number else look
            seed = config.seed + 1 + number
            write_explored(turn.folder / EXPLORED_NAME, look_ahead(network, lessons, look, seed))
        first = max(0, number + 1 - rounds.kept)
        folders = [turn.folder.parent / f"lookahead_{kept}" for kept in range(first, number + 1)]
        explored = [one for kept in folders for one in read_explored(kept / EXPLORED_NAME)]
        values = replace(config.cloning, epochs=rounds.epochs, learning_rate=rounds.learning_rate)
        return _cloned(turn, Teaching(lessons.lessons, (), tuple(explored)), values, network)

    return run


def _round(config: AgentTrainingConfig, number: int) -> _Run:
    """Better plans of one round are kept, so that a stopped round does not search them again."""

    def run(turn: _Turn) -> Policy:
        assert turn.network is not None  # the configuration says so
        path, teaching = turn.folder / _DEMONSTRATIONS, turn.material.teaching
        if turn.has(_DEMONSTRATIONS):
            teaching = teaching.with_more(read_demonstrations(path))
        else:
            seed = config.seed + 1 + number
            earlier = _earlier(teaching, turn.folder.parent, number)
            teaching = improve_demonstrations(turn.network, earlier, config.rounds.round, seed)
            write_demonstrations(path, teaching.shown)
        rounds = config.rounds
        values = replace(config.cloning, epochs=rounds.epochs, learning_rate=rounds.learning_rate)
        return _cloned(turn, teaching, values, turn.network)

    return run


def _earlier(teaching: Teaching, out: Path, number: int) -> Teaching:
    """What is known after the rounds before."""
    if number == 0:
        return teaching
    path = out / f"round_{number - 1}" / _DEMONSTRATIONS
    return teaching.with_more(read_demonstrations(path))
