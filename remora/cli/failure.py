"""How errors reach the user: their own first, then ours in one sentence, no traceback unless -v."""

from __future__ import annotations

import sys
import traceback

from remora.errors import InfeasibleError, ModelRunError, RemoraError
from remora.report.wording import bytes_text

__all__ = ["print_bug", "print_failure"]


def print_failure(error: RemoraError, verbose: bool) -> None:
    """Print an error of the tree to stderr.

    Args:
        error: what ended the command.
        verbose: print its traceback too.
    """
    if verbose:
        traceback.print_exception(error)
    for line in _own_lines(error):
        _print(line)
    _print(f"remora: {error}")
    if isinstance(error, InfeasibleError):
        for line in _infeasible_lines(error):
            _print(line)


def print_bug(error: Exception, verbose: bool) -> None:
    """Print an error that is nobody's fault but ours."""
    if verbose:
        traceback.print_exception(error)
    hint = "" if verbose else " (-v shows the traceback)"
    _print(f"remora: this is a bug of Remora: {type(error).__name__}: {error}{hint}")


def _own_lines(error: RemoraError) -> list[str]:
    """The error of the user's model, in Python's own words."""
    if not isinstance(error, ModelRunError):
        return []
    notes: list[str] = list(getattr(error, "__notes__", ()))
    if error.__cause__ is None:
        return notes
    from remora.api.model_source import own_error_lines

    return own_error_lines(error.__cause__) + notes


def _infeasible_lines(error: InfeasibleError) -> list[str]:
    lines = []
    if error.smallest_budget_bytes is not None:
        size = error.smallest_budget_bytes
        lines.append(f"the smallest budget that works: {bytes_text(size)} (memory={size})")
    kinds = sorted(error.breakdown.items(), key=lambda item: -item[1])
    if kinds:
        shares = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in kinds if size)
        lines.append(f"what takes the memory there: {shares}")
    return lines


def _print(line: str) -> None:
    print(line, file=sys.stderr)
