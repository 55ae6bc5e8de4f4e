"""Which process of a run failed of itself, and its own last words, from exit codes and logs."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "failure_of", "first_failure", "places"]

_RANK_PREFIX = re.compile(r"^\[rank\d+\]: ?")
"""PyTorch puts it before every line of a rank's traceback."""

_OTHERS_FAULT = re.compile(
    r"Connection (closed|reset)|Broken pipe|remote process exited|Dist(Backend|Network|Store)Error"
    r"|[Tt]imed out|failed to recv"
)
"""Words of a rank that lost the others."""

_SHORT_OF_MEMORY = re.compile(
    r"\b(OutOfMemoryError|MemoryError)\b|can't allocate memory|not enough memory"
)

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
"""A line of the stacks that Python's faulthandler writes."""

_IN_MESSAGE = re.compile(r"torch/distributed/|executor/pipeline/exchange")
"""Files in which a rank waits for others."""

_SENT_OR_SUFFERED = (-signal.SIGTERM, -signal.SIGABRT)
"""The launcher sends the first to those that still run; libraries that lose the others abort."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        status: ``ok``, ``out_of_memory``, ``crashed`` or ``timed_out``.
        detail: which rank failed and how, in its own last words; empty if none did.
    """

    status: str
    detail: str = ""


def first_failure(codes: Mapping[int, int], logs: Mapping[int, Path]) -> Ended:
    """Tell the failure of the rank that failed of itself, and not since another one was gone.

    One that a signal ended needs no other's help, unless the launcher sent it. Next comes one that
    raised an error which is not about the others; it may not have got to its end when the launcher
    stopped it. Of several, the first to write its last words.

    Args:
        codes: exit codes of the ranks that the launcher saw fail; not empty.
        logs: standard error of all ranks.
    """
    killed = [rank for rank, code in codes.items() if code < 0 and code not in _SENT_OR_SUFFERED]
    raised = [rank for rank, log in logs.items() if _raised_of_itself(log)]
    rank = min(killed or raised or codes, key=lambda rank: (_last_change_s(logs, rank), rank))
    return failure_of(f"rank {rank}", codes.get(rank, 1), logs.get(rank))


def failure_of(who: str, code: int, log: Path | None) -> Ended:
    """Tell the failure of one process.

    Args:
        who: names it.
        code: what it ended with; a negative signal if one ended it.
        log: its standard error; None or a missing file if there is none.
    """
    if code == -signal.SIGKILL:
        return Ended("out_of_memory", f"{who} was killed, as the system does for lack of memory")
    words = _error_line(log) or _last_line(log)
    status = "out_of_memory" if _SHORT_OF_MEMORY.search(words) else "crashed"
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if words and code in _SENT_OR_SUFFERED:
        how = "failed"
    return Ended(status, f"{who} {how}: {words}" if words else f"{who} {how}")


def places(logs: Mapping[str, Path]) -> list[str]:
    """Tell where processes were when they were asked to write their stacks.

    Args:
        logs: standard error of each, by its name.

    Returns:
        One phrase for every process that answered, those first that waited for no other.
    """
    found = [(name, frames) for name, log in logs.items() if (frames := _stack(log))]
    found.sort(key=lambda item: any(_IN_MESSAGE.search(frame["file"]) for frame in item[1]))
    return [
        f"{name} was in {frames[0]['function']} ({Path(frames[0]['file']).name}, line "
        f"{frames[0]['line']})"
        for name, frames in found
    ]


def _stack(log: Path) -> list[re.Match[str]]:
    """Frames of the last stack of a log, innermost first."""
    lines = _lines(log)
    begins = [n for n, line in enumerate(lines) if line.endswith("(most recent call first):")]
    if not begins:
        return []
    frames = (_FRAME.match(line) for line in lines[begins[-1] + 1 :])
    return [
        frame for frame in itertools.takewhile(lambda frame: frame is not None, frames) if frame
    ]


def _raised_of_itself(log: Path) -> bool:
    words = _error_line(log)
    return bool(words) and _OTHERS_FAULT.search(words) is None


def _error_line(log: Path | None) -> str:
    """The error that the last traceback ends with; warnings may come after it."""
    lines = _lines(log)
    begins = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    if not begins:
        return ""
    after = lines[begins[-1] + 1 :]
    return next((line for line in after if line and not line[0].isspace()), "")


def _last_line(log: Path | None) -> str:
    lines = [line for line in _lines(log) if line.strip()]
    return lines[-1].strip() if lines else ""


def _lines(log: Path | None) -> list[str]:
    if log is None or not log.exists():
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    return [_RANK_PREFIX.sub("", line) for line in text.splitlines()]


def _last_change_s(logs: Mapping[int, Path], rank: int) -> float:
    return logs[rank].stat().st_mtime if rank in logs else float("inf")
