"""Many processes and one folder: a reader never meets half a shard."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from remora.cost_models.dataset.dataset import read_dataset
from remora.cost_models.dataset.shard import write_shard
from tests.cost_models.dataset.runs import run_of

ROOT = Path(__file__).parents[3]
TIMES = 12

WRITER = """
import sys
from pathlib import Path
from remora.cost_models.dataset.shard import write_shard
from tests.cost_models.dataset.runs import run_of

folder, own, times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(times):
    for size in (1, 2, own, own + turn % 3):
        write_shard(folder, run_of(size=size))
"""


def writer(folder: Path, own: int, times: int = TIMES) -> subprocess.Popen[str]:
    """Start a process that writes two shared runs and some of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(own), str(times)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def begin(*processes: subprocess.Popen[str]) -> None:
    """Let processes write once all of them are ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def test_two_writers_of_the_same_and_other_runs_and_a_reader(tmp_path: Path) -> None:
    write_shard(tmp_path, run_of(size=0))
    processes = [writer(tmp_path, own) for own in (10, 20)]
    begin(*processes)
    reads = 0
    while any(process.poll() is None for process in processes):
        dataset = read_dataset(tmp_path)
        assert dataset.faults == ()
        assert all(run.steps == run_of().steps for run in dataset.runs)
        reads += 1
    assert [process.wait() for process in processes] == [0, 0]
    assert reads > 3
    sizes = {run.subject.values["size"] for run in read_dataset(tmp_path).runs}
    assert sizes == {0, 1, 2, 10, 11, 12, 20, 21, 22}
    assert not list(tmp_path.glob(".*"))
    for process in processes:
        process.communicate()


def test_a_writer_that_is_killed_leaves_whole_shards_only(tmp_path: Path) -> None:
    write_shard(tmp_path, run_of(size=0))
    for delay_s in (0.005, 0.02, 0.05):
        process = writer(tmp_path, own=10, times=100_000)
        begin(process)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert read_dataset(tmp_path).faults == ()
