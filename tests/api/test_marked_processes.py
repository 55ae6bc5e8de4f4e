"""Nothing that carries the mark is left, with and without psutil."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest

from remora.api.marked_processes import MARK, end_marked

# Starts a process in a session of its own and tells its number.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("with_psutil", [True, False])
def test_a_marked_process_and_what_it_started_are_ended(
    with_psutil: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_psutil:
        monkeypatch.setitem(sys.modules, "psutil", None)
    mark = uuid.uuid4().hex
    marked = _start(mark)
    other = _start(uuid.uuid4().hex)
    try:
        end_marked(mark)
        assert marked[0].wait(5) < 0
        assert not _runs(marked[1])
        assert other[0].poll() is None
        assert _runs(other[1])
    finally:
        end_marked(_mark_of(other[0].pid))
        other[0].wait(5)


def _start(mark: str) -> tuple[subprocess.Popen[str], int]:
    """A marked process and the number of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        return process, int(process.stdout.readline())


def _mark_of(process: int) -> str:
    with open(f"/proc/{process}/environ", "rb") as file:
        pairs = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    return pairs[MARK.encode()].decode()


def _runs(process: int) -> bool:
    """Whether it runs; nobody may have collected one that ended yet."""
    for _ in range(100):
        try:
            with open(f"/proc/{process}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state != "Z":
            return True
        time.sleep(0.02)
    return False
