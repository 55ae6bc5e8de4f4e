"""Training an agent from a configuration: labels, stages, comparison, files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remora.agents.learned.policy_files import save_policy
from remora.agents.learned.selection import Validation
from remora.api.agent_training.config import AgentTrainingConfig
from remora.api.agent_training.data import labels_of, sampler_of, teaching_of, validation_of
from remora.api.agent_training.judging import COLUMNS, GREEDY_DECODE, Answer, compared, summary_rows
from remora.api.agent_training.pass_material import (
    pass_sampler,
    pass_teaching,
    pass_validation,
)
from remora.api.agent_training.stages import Material, run_stages
from remora.api.joint_config import joint_config
from remora.api.provenance import provenance
from remora.errors import FileFormatError, InvalidInputError
from remora.report.drawings import timeline_drawing
from remora.report.files import read_json, write_bytes, write_json
from remora.schedule.inference import Mode
from remora.simulator.simulate import simulate
from remora.tracking.tracker import Tracker, tracked

__all__ = ["POLICY_FOLDER", "RESULT_NAME", "TrainedAgent", "material_of", "train_agent"]

POLICY_FOLDER = "policy"
RESULT_NAME = "result.json"

_CONFIG_NAME = "training.json"
_VERSION = 1
_PACKAGES = ("torch", "torch-geometric", "stable-baselines3", "sb3-contrib", "gymnasium")


@dataclass(frozen=True)
class TrainedAgent:
    """What a training leaves behind.

    Attributes:
        path: folder of the policy.
        card: where it comes from and how good it is.
        answers: the policy's and other schedulers' on the validation problems.
        regret: mean log of the step time of greedy plans over the best known ones.
    """

    path: Path
    card: Mapping[str, Any]
    answers: tuple[Answer, ...]
    regret: float


def train_agent(
    config: AgentTrainingConfig,
    out: Path,
    tracker: Tracker,
    resume: bool = False,
    command: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> TrainedAgent:
    """Train a policy, compare it on the validation problems, and save it.

    Args:
        config: what to do.
        out: folder; the policy goes to ``policy/``, labels to ``labels/`` and ``validation/``
            unless the configuration names folders of them, every stage to one of its own.
        tracker: not started yet; finished also when the training crashes.
        resume: go on where an earlier run of the same configuration stopped; the weights are
            those of a run that was not stopped.
        command: the command line, for the card.
        tell: called with a few words about what is going on.

    Raises:
        InvalidInputError: another training lies in ``out``, or a value is not allowed.
        FileFormatError: there is nothing to resume from, or it belongs to another configuration.
    """
    _claim(config, out, resume)
    with tracked(tracker, config.as_dict()):
        material = material_of(config, out, tell)
        policy = run_stages(config, material, out, tracker, resume, lambda s: tell(f"stage {s}"))
        tell("comparing")
        answers = tuple(
            compared(policy.network, material.validation, config.evaluation, config.seed)
        )
        regret = material.validation.regret(policy.network)
        card = _card(config, material, answers, regret, command)
        path = out / POLICY_FOLDER
        save_policy(path, dataclasses.replace(policy, card=card))
        _log(config, material.validation, answers, regret, out, tracker)
        tracker.log_artifact("policy", "policy", path)
    return TrainedAgent(path, card, answers, regret)


def material_of(
    config: AgentTrainingConfig, out: Path, tell: Callable[[str], None] = lambda text: None
) -> Material:
    """Make or read the labels, and what stages learn from them.

    Args:
        config: which.
        out: folder for labels that have none of their own.
        tell: called with a few words about what is going on.

    Raises:
        UsageError: a file cannot be written or is broken, or a value is not allowed.
    """

    def listener(what: str) -> Callable[[str, int, int], None]:
        return lambda name, done, total: tell(f"searching {what}: {done} of {total}, {name}")

    mode = joint_config(config.labels.env).recipe.mode
    if joint_config(config.validation.env).recipe.mode is not mode:
        raise InvalidInputError(
            f"validation.env is {config.validation.env!r}; allowed: one of mode {mode.value!r}, as "
            f"labels.env {config.labels.env!r}"
        )
    if mode is Mode.INFERENCE:
        learned = pass_teaching(config.labels, out / "labels", listener("problems to learn from"))
        known = pass_teaching(
            config.validation, out / "validation", listener("validation problems")
        )
        sampler = pass_sampler(learned, config.labels.env)
        return Material(learned, sampler, pass_validation(known))
    labels = labels_of(config.labels, out / "labels", listener("problems to learn from"))
    checks = labels_of(config.validation, out / "validation", listener("validation problems"))
    tell("turning plans into episodes")
    teaching = teaching_of(labels, config.labels)
    sampler = sampler_of(teaching, labels, config.labels.env)
    return Material(teaching, sampler, validation_of(checks))


def _claim(config: AgentTrainingConfig, out: Path, resume: bool) -> None:
    """Write down whose folder it is, or check that it is this configuration's."""
    path, digest = out / _CONFIG_NAME, _digest(config)
    if not resume:
        if path.exists():
            raise InvalidInputError(
                f"out is {str(out)!r}, which has a training; allowed: another folder, or "
                "resume=true"
            )
        write_json(path, {"version": _VERSION, "digest": digest, "config": config.as_dict()})
        return
    if not path.is_file():
        raise FileFormatError(f"there is no training to resume in {out}")
    if read_json(path, "training", _VERSION).get("digest") != digest:
        raise FileFormatError(
            f"{path} belongs to a training with other values; give those again, or another out="
        )


def _digest(config: AgentTrainingConfig) -> str:
    """Hash of what decides about the weights; how long it takes and what is compared does not."""
    values = config.as_dict()
    del values["evaluation"]
    for stage in ("cloning", "ppo"):
        del values[stage]["max_seconds"]
    for labels in ("labels", "validation"):
        for name in ("workers", "folder"):
            del values[labels][name]
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _log(
    config: AgentTrainingConfig,
    validation: Validation,
    answers: tuple[Answer, ...],
    regret: float,
    out: Path,
    tracker: Tracker,
) -> None:
    rows = [[one.problem, one.method, one.gap, one.search_s] for one in answers]
    tracker.log_table("answers", ("problem", "method", "gap", "search_s"), rows)
    tracker.log_table("comparison", COLUMNS, summary_rows(answers))
    problems = {problem.tables.name: problem for problem in validation.problems}
    drawn = [one for one in answers if one.method == GREEDY_DECODE and one.schedule is not None]
    for answer in drawn[: config.evaluation.pictures]:
        problem, schedule = problems[answer.problem], answer.schedule
        assert schedule is not None
        timeline = simulate(problem.tables.problem, schedule)
        path = out / f"timeline_{answer.problem}.png"
        write_bytes(path, timeline_drawing(timeline, problem.budget_bytes))
        tracker.log_picture(path.stem, path)
    write_json(
        out / RESULT_NAME,
        {
            "version": _VERSION,
            "seed": config.seed,
            "stages": list(config.stages),
            "regret": regret,
            "columns": list(COLUMNS),
            "rows": [list(row) for row in summary_rows(answers)],
        },
    )


def _card(
    config: AgentTrainingConfig,
    material: Material,
    answers: tuple[Answer, ...],
    regret: float,
    command: str,
) -> dict[str, Any]:
    return {
        "data": f"{len(material.teaching.lessons)} drawn problems with roofline costs, "
        f"{len(material.teaching.shown)} episodes from searches",
        "validation_problems": len(material.validation.problems),
        "validation_regret": regret,
        "quality": [dict(zip(COLUMNS, row, strict=True)) for row in summary_rows(answers)],
        "config": config.as_dict(),
        **provenance(command, _PACKAGES),
    }
