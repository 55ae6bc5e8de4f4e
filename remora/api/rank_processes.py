"""Running a module as one process or as several ranks, of which nothing is left behind.

Every process of a run carries a mark in its environment, and so does what it starts itself. At the
end, whatever end it is, all that carry the mark are killed: also those that began a session of
their own or whose parent died before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from remora.api.marked_processes import MARK, end_marked

__all__ = ["Ended", "run_ranks"]

_LAUNCHER = "remora.api.rank_launcher"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        status: ``ok``, ``out_of_memory``, ``crashed`` or ``timed_out``.
        detail: which rank failed and how, in its own last words; empty if none did.
    """

    status: str
    detail: str = ""


def run_ranks(module: str, arguments: Sequence[str], world_size: int, time_limit_s: float) -> Ended:
    """Run ``python -m module argument...`` as one process, or as ranks under torchrun.

    The processes are in sessions of their own, so an interruption from the keyboard reaches only
    this one, which ends them. Where several share the machine each gets one thread, unless
    ``OMP_NUM_THREADS`` says otherwise.

    Args:
        module: to run; found in the same places as in this process.
        arguments: of every rank.
        world_size: number of ranks; 1 runs without torchrun.
        time_limit_s: seconds after which all processes are ended.

    Returns:
        How it ended; no process of it lives any more.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="remora-") as name, _exit_on_terminate():
        folder = Path(name)
        command = [sys.executable, "-m", module, *arguments]
        if world_size > 1:
            launch = [_LAUNCHER, str(_exit_codes(folder)), str(world_size), str(folder), module]
            command = [sys.executable, "-m", *launch, *arguments]
        process: subprocess.Popen[bytes] | None = None
        try:
            with _errors(folder).open("wb") as errors:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=_environment(mark, world_size),
                    start_new_session=True,
                )
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            return Ended("timed_out", f"the run took longer than {time_limit_s:g} s")
        finally:
            end_marked(mark)
            if process is not None:
                process.wait()
        return _ended(code, world_size, folder)


def _environment(mark: str, world_size: int) -> dict[str, str]:
    # A module of the user's own is found in the same places as in this process.
    paths = [path for path in sys.path if path] + [str(Path.cwd())]
    threads = {"OMP_NUM_THREADS": "1"} if world_size > 1 else {}
    own = {"PYTHONPATH": os.pathsep.join(paths), MARK: mark}
    return {**threads, **os.environ, **own}


def _errors(folder: Path) -> Path:
    """Standard error of the process that is started here."""
    return folder / "stderr.log"


def _exit_codes(folder: Path) -> Path:
    """Where the launcher writes the exit codes of the ranks that failed."""
    return folder / "exit_codes.json"


@contextlib.contextmanager
def _exit_on_terminate() -> Iterator[None]:
    """Let SIGTERM unwind this process, as an interruption does, instead of ending it on the spot.

    A handler of somebody else's stays.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _ended(code: int, world_size: int, folder: Path) -> Ended:
    if code == 0:
        return Ended("ok")
    if world_size == 1:
        return _failed("the process", code, _errors(folder))
    if not _exit_codes(folder).exists():
        return _failed("the launcher of the ranks", code, _errors(folder))
    values = json.loads(_exit_codes(folder).read_text(encoding="utf-8"))
    codes = {int(rank): int(value) for rank, value in values.items()}
    logs = {rank: _log_of_rank(folder, rank) for rank in codes}
    rank = _first_failed(codes, logs)
    return _failed(f"rank {rank}", codes[rank], logs[rank])


def _first_failed(codes: Mapping[int, int], logs: Mapping[int, Path]) -> int:
    """The rank that failed of itself, and not since another one was gone.

    One that a signal ended needs no other's help, unless the launcher sent it. Of the others, the
    first to write its last words.
    """
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    return min(killed or codes, key=lambda rank: (_last_change_s(logs[rank]), rank))


def _last_change_s(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else float("inf")


def _log_of_rank(folder: Path, rank: int) -> Path:
    """Standard error of a rank, where torchrun puts it."""
    found = sorted(folder.glob(f"*/attempt_*/{rank}/stderr.log"))
    return found[-1] if found else folder / f"no_log_of_rank_{rank}"


def _failed(who: str, code: int, log: Path) -> Ended:
    if code == -signal.SIGKILL:
        return Ended("out_of_memory", f"{who} was killed, as the system does for lack of memory")
    words = _last_line(log)
    reason = f": {words}" if words else ""
    if code < 0:
        return Ended("crashed", f"{who} died of {signal.Signals(-code).name}{reason}")
    return Ended("crashed", f"{who} ended with code {code}{reason}")


def _last_line(log: Path) -> str:
    if not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
