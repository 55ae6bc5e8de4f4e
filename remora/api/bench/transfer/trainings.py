"""Policies that practised for one group, kept in folders, so that a stopped bench goes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from remora.agents.learned.policy_files import Policy, save_policy
from remora.api.bench.transfer.groups import Group
from remora.api.bench.transfer.methods import FINE_TUNED, Practised
from remora.api.bench.transfer.practice import PracticeConfig, fresh_network, practise
from remora.api.bench.transfer.problems import practice_tables
from remora.envs.plan_tables import PlanTables
from remora.errors import FileFormatError, RemoraError
from remora.report.files import read_json, write_json

__all__ = ["Trainer", "Training"]

_POLICY, _RECORD, _VERSION = "policy", "training.json", 1


@dataclass(frozen=True)
class Training:
    """How one policy practised for one group.

    Attributes:
        group: name of the group.
        policy: what it began with.
        seed: of all draws.
        seconds: that it took; those of drawing and tracing are not counted.
        rounds: of self-imitation.
        before, after: mean log of the step time over that of keeping everything, on problems
            for validation; None without a policy.
        fault: why there is no policy; empty if there is.
    """

    group: str
    policy: Practised
    seed: int
    seconds: float = 0.0
    rounds: int = 0
    before: float | None = None
    after: float | None = None
    fault: str = ""


@dataclass
class Trainer:
    """Trains for one group with one seed what has not been trained yet.

    Attributes:
        group: what is practised on.
        policy: what fine-tuning begins with; fresh weights have its size.
        config: how.
        limit_s: seconds of each training.
        seed: of all draws.
        folder: where the policies of this group and seed are kept.
    """

    group: Group
    policy: Policy
    config: PracticeConfig
    limit_s: float
    seed: int
    folder: Path

    def path(self, name: Practised) -> Path:
        """Folder of a policy."""
        return self._own(name) / _POLICY

    def training(self, name: Practised, tell: Callable[[str], None]) -> Training:
        """Read how a policy practised, or let it practise now.

        A fault is not kept, so that a later run tries again.

        Args:
            name: what it begins with.
            tell: called with a few words if there is something to do.

        Raises:
            FileFormatError: the record is broken.
        """
        record = self._own(name) / _RECORD
        if record.is_file():
            return _read(record)
        tell(f"{self.group.name}: practising, {name}, seed {self.seed}")
        training = Training(self.group.name, name, self.seed)
        try:
            training = self._practised(name, training)
        except RemoraError as error:
            return replace(training, fault=str(error))
        except Exception as error:
            # Hours of other rows are not lost to the bug of one training.
            return replace(training, fault=f"bug: {type(error).__name__}: {error}")
        write_json(record, {"version": _VERSION, **asdict(training)})
        return training

    def _practised(self, name: Practised, training: Training) -> Training:
        start, rate = self.policy, self.config.learning_rate
        if name != FINE_TUNED:
            network = fresh_network(self.policy.network.size, self.seed)
            start, rate = replace(self.policy, network=network), self.config.scratch_learning_rate
        with tempfile.TemporaryDirectory() as checkpoints:
            result = practise(
                start,
                self._tables,
                self.config,
                rate,
                self.limit_s,
                self.seed,
                Path(checkpoints),
            )
        save_policy(self.path(name), result.policy)
        return replace(
            training,
            seconds=result.seconds,
            rounds=result.rounds,
            before=result.before,
            after=result.after,
        )

    @cached_property
    def _tables(self) -> tuple[PlanTables, ...]:
        count = self.config.problems + self.config.validation
        return practice_tables(self.group, count, self.seed)

    def _own(self, name: Practised) -> Path:
        return self.folder / name.replace(" ", "_")


def _read(path: Path) -> Training:
    values = read_json(path, "training", _VERSION)
    names = {field.name for field in fields(Training)}
    if set(values) - {"version"} != names:
        raise FileFormatError(f"{path} lacks or garbles a field; delete it to train again")
    return Training(**{name: values[name] for name in names})
