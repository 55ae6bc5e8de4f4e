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
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from remora.api.marked_processes import MARK, end_marked, signal_marked
from remora.api.rank_failures import Ended, failure_of, first_failure, places
from remora.api.run_member import WHERE

__all__ = ["Ended", "run_ranks"]

_LAUNCHER = "remora.api.rank_launcher"

_ANSWERED_WITHIN_S = 0.3

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def run_ranks(module: str, arguments: Sequence[str], world_size: int, time_limit_s: float) -> Ended:
    """Run ``python -m module argument...`` as one process, or as ranks under torchrun.

    The processes are in sessions of their own, so an interruption from the keyboard reaches only
    this one, which ends them. Where several share the machine each gets one thread, unless
    ``OMP_NUM_THREADS`` says otherwise. A module that calls :func:`remora.api.run_member.join_run`
    lets the detail of a run that takes too long say where its ranks were, and ends with this
    process even where that is killed.

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
            stuck = "".join(f"; {place}" for place in _places(mark, world_size, folder))
            return Ended("timed_out", f"the run took longer than {time_limit_s:g} s{stuck}")
        finally:
            end_marked(mark)
            if process is not None:
                process.wait()
        return _ended(code, world_size, folder)


def _places(mark: str, world_size: int, folder: Path) -> list[str]:
    """Ask all processes where they are; those that cannot tell die of it, as they are about to."""
    signal_marked(mark, WHERE)
    # The stacks are written within a few milliseconds, if at all.
    time.sleep(_ANSWERED_WITHIN_S)
    if world_size == 1:
        return places({"the process": _errors(folder)})
    return places({f"rank {rank}": log for rank, log in _logs_of_ranks(folder).items()})


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
    """Let signals unwind this process, as an interruption does, instead of ending it on the spot.

    A handler of somebody else's stays.
    """
    in_main = threading.current_thread() is threading.main_thread()
    ours = [n for n in _ENDING if in_main and signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _ended(code: int, world_size: int, folder: Path) -> Ended:
    if code == 0:
        return Ended("ok")
    if world_size == 1:
        return failure_of("the process", code, _errors(folder))
    if not _exit_codes(folder).exists():
        return failure_of("the launcher of the ranks", code, _errors(folder))
    values = json.loads(_exit_codes(folder).read_text(encoding="utf-8"))
    codes = {int(rank): int(value) for rank, value in values.items()}
    return first_failure(codes, _logs_of_ranks(folder))


def _logs_of_ranks(folder: Path) -> dict[int, Path]:
    """Standard error of the ranks by number, where torchrun puts it."""
    found = sorted(folder.glob("*/attempt_*/*/stderr.log"))
    return {int(path.parent.name): path for path in found}
