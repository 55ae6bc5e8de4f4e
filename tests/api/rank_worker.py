"""One of the ranks of a run, whose fate is the first argument.

Run as ``python -m tests.api.rank_worker FATE FOLDER``. Every rank that has met the others leaves a
file in the folder.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from remora.api.run_member import join_run

WAIT_S = 600.0
"""Longer than a test may take, so that nobody is gone of itself."""


def main() -> None:
    join_run()
    fate, folder = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    first_two = dist.new_group([0, 1])
    (folder / f"rank-{rank}").touch()
    if rank == 0:
        total = torch.ones(())
        dist.all_reduce(total, group=first_two)
        assert total == 2
    else:
        FATES[fate](rank, first_two)
    dist.destroy_process_group()


def well(rank: int, first_two: dist.ProcessGroup) -> None:
    if rank == 1:
        dist.all_reduce(torch.ones(()), group=first_two)


def killed(rank: int, first_two: dist.ProcessGroup) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raising(rank: int, first_two: dist.ProcessGroup) -> None:
    raise ValueError("rank 1 has had enough")


def hungry(rank: int, first_two: dist.ProcessGroup) -> None:
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + 2**26, now_bytes + 2**26))
    torch.empty(2**30).fill_(1.0)


def stuck(rank: int, first_two: dist.ProcessGroup) -> None:
    """Rank 1 hangs, as does what it started, and others leave as if they were done."""
    if rank > 1:
        os._exit(0)
    subprocess.Popen(["sleep", str(WAIT_S)], start_new_session=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(WAIT_S)


def asleep(rank: int, first_two: dist.ProcessGroup) -> None:
    """Nobody but the system can end this rank."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(WAIT_S)


FATES: dict[str, Callable[[int, dist.ProcessGroup], None]] = {
    fate.__name__: fate for fate in (well, killed, raising, hungry, stuck, asleep)
}


if __name__ == "__main__":
    main()
