"""The methods of the bench: one policy as it is, after practice, from scratch, and without any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from remora.agents.scheduler import Scheduler
from remora.api.bench.methods import Method, MethodRun
from remora.errors import InvalidInputError

__all__ = [
    "DECODES",
    "FINE_TUNED",
    "FROM_SCRATCH",
    "REFERENCE",
    "UNLEARNED",
    "UNTRAINED",
    "ZERO_SHOT",
    "Practised",
    "TitledMethod",
    "UntrainedRun",
    "label_of",
    "policy_runs",
    "reference_run",
    "unlearned_runs",
]

Practised = Literal["fine-tuned", "from scratch"]

ZERO_SHOT = "zero-shot"
FINE_TUNED: Practised = "fine-tuned"
FROM_SCRATCH: Practised = "from scratch"
UNLEARNED = "rank_greedy + local search"
REFERENCE = "reference"

UNTRAINED = "no policy was trained"
"""Beginning of the note of a row that has no answer because of that."""

_SEARCH = "samples + search"
DECODES: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"decode": "greedy", "search": False},
    "samples": {"decode": "samples", "samples": 64, "search": False},
    _SEARCH: {"decode": "samples", "samples": 64, "search": True},
}
"""Settings of scheduler ``learned`` by the name of the way in which plans are found."""


@dataclass(frozen=True)
class TitledMethod(Method):
    """A method with a name of its own, so that no row depends on where a policy is kept.

    Attributes:
        title: takes the place of the label.
    """

    title: str = ""

    @property
    def label(self) -> str:
        """How tables and rows call it."""
        return self.title


@dataclass(frozen=True)
class UntrainedRun(MethodRun):
    """A run of a policy that could not be trained.

    Attributes:
        reason: why; its row says so.
    """

    reason: str = ""

    def create(self) -> Scheduler:
        """There is nothing to make.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError(f"{UNTRAINED}: {self.reason}")


def label_of(policy: str, decode: str = _SEARCH) -> str:
    """Label of a policy, decoded in one of :data:`DECODES`."""
    return f"{policy}, {decode}"


def policy_runs(
    policy: str, seed: int, folder: Path | None = None, fault: str = ""
) -> Iterator[MethodRun]:
    """Every way to find plans with one policy.

    Args:
        policy: such as ``zero-shot``.
        seed: of the draws, and of the training.
        folder: of the policy.
        fault: why there is none; empty if there is.
    """
    for decode, settings in DECODES.items():
        method = TitledMethod(
            "learned", {**settings, "policy": str(folder)}, label_of(policy, decode)
        )
        yield UntrainedRun(method, seed, fault) if fault else MethodRun(method, seed)


def unlearned_runs(seeds: Sequence[int]) -> Iterator[MethodRun]:
    """The strongest start without a policy, and climbing from it for the rest of the time."""
    for seed in seeds:
        yield MethodRun(TitledMethod("local_search", {}, UNLEARNED), seed)


def reference_run() -> MethodRun:
    """The long search that stands in where no best schedule is known."""
    return MethodRun(TitledMethod("annealing", {}, REFERENCE), 0)
