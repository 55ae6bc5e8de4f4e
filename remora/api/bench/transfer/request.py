"""What a bench of transfer is asked, and whose rows lie in its folder."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remora.agents.learned.policy_files import Policy, load_policy
from remora.agents.learned.pretrained_policies import pretrained_path
from remora.api.bench.transfer.groups import Group
from remora.api.bench.transfer.practice import PracticeConfig
from remora.errors import FileFormatError, InvalidInputError
from remora.report.files import read_json, write_json
from remora.schedule.inference import Mode

__all__ = ["ROWS_NAME", "TransferRequest", "claim", "policy_folder"]

ROWS_NAME = "rows.jsonl"
_CLAIM, _VERSION = "request.json", 1


@dataclass(frozen=True)
class TransferRequest:
    """What to judge.

    Attributes:
        policy: folder of the policy.
        groups: kinds of problems.
        problems: per group.
        practice: how the policy practises.
        fine_tune_s: seconds of practice, for the policy and for fresh weights alike.
        time_limit_s: of every plan.
        reference_s: of the long search where no best schedule is known.
        seeds: of draws and trainings.
        jobs: processes at once, one thread each.
        out: folder.
        resume: go on from what is there.
        command: as typed.
    """

    policy: Path
    groups: tuple[Group, ...]
    out: Path
    problems: int = 6
    practice: PracticeConfig = field(default_factory=PracticeConfig)
    fine_tune_s: float = 300.0
    time_limit_s: float = 1.0
    reference_s: float = 60.0
    seeds: tuple[int, ...] = (0,)
    jobs: int = 1
    resume: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("fine_tune_s", "time_limit_s", "reference_s"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(
                    f"{name} is {getattr(self, name)}, allowed: seconds above 0"
                )
        for name in ("problems", "jobs"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, allowed: 1 or more")
        if not self.seeds:
            raise InvalidInputError("seeds is empty; allowed: a list such as [0,1]")
        for seed in self.seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                raise InvalidInputError(f"seeds holds {seed!r}; allowed: integers from 0")

    def load(self) -> Policy:
        """Read the policy.

        Raises:
            FileFormatError: it cannot be read.
            InvalidInputError: it has learned to plan passes of inference.
        """
        policy = load_policy(self.policy)
        policy.check_mode(Mode.TRAIN, f"policy is {str(self.policy)!r}")
        return policy


def policy_folder(name: str) -> Path:
    """The folder of a policy.

    Args:
        name: a folder, or a policy that ships with the package.

    Raises:
        UnknownNameError: neither.
    """
    folder = Path(name)
    return folder.resolve() if folder.is_dir() else pretrained_path(name)


def claim(request: TransferRequest, used: bool) -> None:
    """Write down what rows of the folder depend on, or check that it is the same.

    Args:
        request: what is asked now.
        used: whether the folder has rows.

    Raises:
        InvalidInputError: it has, and ``resume`` is false.
        FileFormatError: they are of another policy, or were practised for in another way.
    """
    path = request.out / _CLAIM
    if used and not request.resume:
        raise InvalidInputError(
            f"out is {str(request.out)!r}, which has rows of an earlier run; allowed: another "
            "folder, or resume=true"
        )
    asked = _depends_on(request)
    groups = dict(asked["groups"])
    if request.resume and path.is_file():
        kept = read_json(path, "request", _VERSION)
        _check_same(path, kept, asked)
        groups = {**kept["groups"], **groups}
    write_json(path, {"version": _VERSION, **asked, "groups": groups})


def _check_same(path: Path, kept: dict[str, Any], asked: dict[str, Any]) -> None:
    known = kept.get("groups")
    same = isinstance(known, dict) and all(
        known.get(name, values) == values for name, values in asked["groups"].items()
    )
    others = [key for key in asked if key != "groups" and kept.get(key) != asked[key]]
    if others or not same:
        raise FileFormatError(
            f"{path} belongs to a run with another {others[0] if others else 'group'}; give the "
            "same again, or another out="
        )


def _depends_on(request: TransferRequest) -> dict[str, Any]:
    weights = b"".join(
        file.read_bytes() for file in sorted(request.policy.iterdir()) if file.is_file()
    )
    return {
        "policy": hashlib.sha256(weights).hexdigest()[:16],
        "practice": asdict(request.practice),
        "fine_tune_s": request.fine_tune_s,
        "reference_s": request.reference_s,
        "groups": {group.name: _listed(asdict(group)) for group in request.groups},
    }


def _listed(values: Any) -> Any:
    """Values as a JSON file gives them back."""
    if isinstance(values, dict):
        return {str(key): _listed(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_listed(value) for value in values]
    return values
