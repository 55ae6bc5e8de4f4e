"""The exceptions of Remora, one small tree; each class carries the exit code of the command line.

Exit codes: 0 done, 1 our bug, 2 wrong usage, 3 nothing fits, 4 verification failed,
5 the user's model failed or a run died, 6 time limit without an answer, 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar

__all__ = [
    "FileFormatError",
    "InfeasibleError",
    "Interrupted",
    "InvalidInputError",
    "MissingExtraError",
    "ModelRunError",
    "RemoraError",
    "TimeLimitError",
    "TraceError",
    "UnknownNameError",
    "UsageError",
    "VerificationError",
    "closest_names",
]


class RemoraError(Exception):
    """Base of every error that Remora raises on purpose.

    Attributes:
        exit_code: what the command line returns when this error ends a command.
    """

    exit_code: ClassVar[int] = 1


class UsageError(RemoraError):
    """Wrong usage, a wrong configuration or a bad file."""

    exit_code = 2


class InvalidInputError(UsageError, ValueError):
    """A field holds a value that is not allowed; the message names field, value and what is."""


class FileFormatError(UsageError):
    """A file is cut short, of a newer version, or belongs to something else."""


class MissingExtraError(UsageError):
    """An optional package is needed and absent.

    Args:
        package: the import name that is missing, for example ``"highspy"``.
        extra: the extra of Remora that brings it, for example ``"solvers"``.
        purpose: what it is needed for, as in "``purpose`` needs the package ...".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(package, extra, purpose)
        self.package = package
        self.extra = extra
        self.purpose = purpose

    def __str__(self) -> str:
        return (
            f"{self.purpose} needs the package {self.package!r}: install the extra {self.extra!r}, "
            f"by pip install '.[{self.extra}]' in Remora's folder"
        )


class UnknownNameError(UsageError):
    """A name that is not in a registry, a folder of configs or a schema.

    Args:
        kind: what the name stands for, for example ``"model"``.
        name: the name as given.
        valid: every name that is allowed; the message lists the closest ones.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.valid = tuple(sorted(valid))
        super().__init__(kind, name, self.valid)

    def __str__(self) -> str:
        close = closest_names(str(self.name), self.valid)
        if close:
            advice = "did you mean " + " or ".join(repr(candidate) for candidate in close) + "?"
        elif self.valid:
            advice = "allowed: " + ", ".join(self.valid)
        else:
            advice = "none is defined"
        return f"unknown {self.kind} {self.name!r}: {advice}"


class InfeasibleError(RemoraError):
    """No schedule fits the memory budget.

    Args:
        message: one sentence that names the budget and what was tried.
        smallest_budget_bytes: the smallest budget per device that works, None where none does.
        breakdown: bytes by kind of memory at the peak of the schedule that needs least.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        smallest_budget_bytes: int | None = None,
        breakdown: Mapping[str, int] | None = None,
    ) -> None:
        self.message = message
        self.smallest_budget_bytes = smallest_budget_bytes
        self.breakdown: dict[str, int] = dict(breakdown or {})
        super().__init__(message, smallest_budget_bytes, self.breakdown)

    def __str__(self) -> str:
        return self.message


class VerificationError(RemoraError):
    """A schedule that ran changed gradients, broke its budget or missed its prediction."""

    exit_code = 4


class ModelRunError(RemoraError):
    """The user's model failed on its example batch, or a measured run died."""

    exit_code = 5


class TraceError(RemoraError):
    """A model that cannot be traced.

    Args:
        module: path of the module whose forward or backward was running, ``""`` for the root.
        op: name of the operator that failed, for example ``"aten.nonzero.default"``.
        reason: why it cannot be traced.
    """

    exit_code = 5

    def __init__(self, module: str, op: str, reason: str) -> None:
        super().__init__(module, op, reason)
        self.module = module
        self.op = op
        self.reason = reason

    def __str__(self) -> str:
        place = f"module {self.module!r}" if self.module else "the root module"
        return f"cannot trace {place} at op {self.op}: {self.reason}"


class TimeLimitError(RemoraError):
    """The time limit passed before there was an answer."""

    exit_code = 6


class Interrupted(RemoraError):  # noqa: N818 - an interruption is no error of anybody
    """The user interrupted a command before there was an answer."""

    exit_code = 130


def closest_names(name: str, valid: Iterable[str], limit: int = 3) -> list[str]:
    """Return the allowed names that look most like ``name``, best first.

    Args:
        name: the name as given; case is ignored.
        valid: the names that are allowed.
        limit: the most names to return.

    Returns:
        At most ``limit`` names of ``valid``; empty when none is similar.
    """
    by_folded = {candidate.casefold(): candidate for candidate in sorted(valid)}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=limit, cutoff=0.6)
    return [by_folded[match] for match in matches]
