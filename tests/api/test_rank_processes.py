"""Runs of several ranks that end badly: nothing is left, and the detail names who began it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remora.api.rank_failures import first_failure
from remora.api.rank_processes import Ended, run_ranks
from tests.api.living import living

WORKER = "tests.api.rank_worker"
LIMIT_S = 200.0


def _run(fate: str, folder: Path, ranks: int = 2, limit_s: float = LIMIT_S) -> Ended:
    """Run, and see that nothing is left."""
    with living() as processes:
        ended = run_ranks(WORKER, [fate, str(folder)], ranks, limit_s)
        assert processes.all_gone()
    return ended


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    ended = _run("killed", tmp_path)
    assert ended.status == "out_of_memory"
    assert ended.detail.startswith("rank 1 was killed")


def test_ranks_that_hang_tell_where(tmp_path: Path) -> None:
    """Three ranks: one waits, one hangs, one has left with exit code 0."""
    for limit_s in (6.0, 20.0, 80.0):
        ended = _run("stuck", tmp_path, 3, limit_s)
        if len(list(tmp_path.iterdir())) == 3:
            break
    assert ended.status == "timed_out"
    limit, hangs, waits = ended.detail.split("; ")
    assert limit.startswith("the run took longer than")
    assert hangs.startswith("rank 1 was in stuck (rank_worker.py, line ")
    assert waits.startswith("rank 0 was in all_reduce (distributed_c10d.py, line ")


@pytest.mark.slow
def test_a_rank_without_memory_is_named(tmp_path: Path) -> None:
    ended = _run("hungry", tmp_path)
    assert ended.status == "out_of_memory"
    assert ended.detail.startswith("rank 1 ended with code 1: RuntimeError: ")
    assert "can't allocate memory" in ended.detail


@pytest.mark.slow
def test_a_rank_that_raises_is_named(tmp_path: Path) -> None:
    ended = _run("raising", tmp_path)
    assert ended.status == "crashed"
    assert ended.detail.startswith("rank 1 ")
    assert ended.detail.endswith(": ValueError: rank 1 has had enough")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "fate"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM, "stuck"),
        (signal.SIGHUP, 128 + signal.SIGHUP, "stuck"),
        (signal.SIGINT, -signal.SIGINT, "stuck"),
        (signal.SIGKILL, -signal.SIGKILL, "asleep"),
    ],
)
def test_a_parent_that_ends_takes_all_along(
    number: signal.Signals, code: int, fate: str, tmp_path: Path
) -> None:
    source = f"from {run_ranks.__module__} import run_ranks\n"
    source += f"run_ranks({WORKER!r}, [{fate!r}, {str(tmp_path)!r}], 2, {LIMIT_S})"
    with living() as processes:
        parent = subprocess.Popen(
            [sys.executable, "-c", source], start_new_session=True, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for(tmp_path / "rank-1")
            parent.send_signal(number)
            assert parent.wait(30.0) == code
            assert processes.all_gone()
        finally:
            parent.kill()
            parent.wait()
    assert _run("well", tmp_path) == Ended("ok")


def _wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _log(folder: Path, rank: int, *lines: str) -> Path:
    path = folder / f"{rank}.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


TRACEBACK = "Traceback (most recent call last):"
CLOSED = "RuntimeError: Connection closed by peer [127.0.0.1]:1558"


def test_who_lost_the_others_is_not_named(tmp_path: Path) -> None:
    """Also where it was the first to end, and the other was stopped for it."""
    logs = {
        0: _log(tmp_path, 0, f"[rank0]: {TRACEBACK}", "[rank0]:   File", f"[rank0]: {CLOSED}"),
        1: _log(tmp_path, 1, f"[rank1]: {TRACEBACK}", "[rank1]: MemoryError", "W0101 a warning"),
    }
    named = Ended("out_of_memory", "rank 1 ended with code 1: MemoryError")
    assert first_failure({0: 1, 1: 1}, logs) == named
    named = Ended("out_of_memory", "rank 1 failed: MemoryError")
    assert first_failure({0: 1, 1: -signal.SIGTERM}, logs) == named
    # An abort can be a library's answer to the loss of a rank, other signals are not.
    assert first_failure({0: -signal.SIGABRT, 1: 1}, logs).detail.startswith("rank 1")
    assert first_failure({0: -signal.SIGSEGV, 1: 1}, logs).detail.startswith("rank 0 died of")


def test_the_first_is_named_where_all_lost_each_other(tmp_path: Path) -> None:
    logs = {rank: _log(tmp_path, rank, TRACEBACK, CLOSED) for rank in (0, 1)}
    os.utime(logs[0], (2.0, 2.0))
    os.utime(logs[1], (1.0, 1.0))
    assert first_failure({0: 1, 1: 1}, logs) == Ended(
        "crashed", f"rank 1 ended with code 1: {CLOSED}"
    )


def test_a_rank_without_words_is_named_by_its_code(tmp_path: Path) -> None:
    logs = {0: _log(tmp_path, 0, TRACEBACK, CLOSED), 1: _log(tmp_path, 1)}
    assert first_failure({1: 3}, logs) == Ended("crashed", "rank 1 ended with code 3")
