"""What other programs take of this machine while something is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from remora.hardware.others import CpuMoment, cpu_moment, others_share

BUSY = "while True: pass"


def test_share_is_what_nobody_here_used() -> None:
    cores = os.cpu_count() or 1
    begun = CpuMoment(at_s=0.0, machine_s=100.0, own_s=10.0)
    ended = CpuMoment(at_s=2.0, machine_s=100.0 + 2.0 * cores, own_s=10.0 + 0.5 * cores)
    assert others_share(begun, ended) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "ended",
    [CpuMoment(0.05, 101.0, 10.0), CpuMoment(2.0, 100.0, 11.0), CpuMoment(2.0, float("nan"), 10.0)],
    ids=["too short", "own work alone", "not told"],
)
def test_no_share_where_nothing_is_known(ended: CpuMoment) -> None:
    assert others_share(CpuMoment(0.0, 100.0, 10.0), ended) == 0.0


def test_a_program_beside_this_one_is_seen() -> None:
    begun = cpu_moment()
    with subprocess.Popen([sys.executable, "-c", BUSY]) as other:
        time.sleep(0.6)
        share = others_share(begun)
        other.kill()
    assert 0.1 / (os.cpu_count() or 1) < share <= 1
