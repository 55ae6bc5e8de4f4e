from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remora.api.bench.methods import Method
from remora.api.bench.task import Opened, Outcome, Task
from remora.api.bench.workers import Lost, run_in_workers
from remora.errors import UsageError
from tests.api.bench.runs import FLOOR, GREEDY, DyingRun, small_suite, with_a_typo

pytestmark = pytest.mark.slow  # every worker imports torch anew

(ITEM,) = small_suite().problems


def test_a_worker_that_dies_costs_one_row() -> None:
    runs = (GREEDY, DyingRun(Method("dying"), None), FLOOR)
    found = list(run_in_workers([Task(ITEM, runs, 5.0)], jobs=2))
    assert [type(one) for one in found] == [Opened, Outcome, Lost, Opened, Outcome]
    lost = found[2]
    assert isinstance(lost, Lost)
    assert lost.run == runs[1]
    assert "died with exit code -9" in lost.reason


def test_a_problem_that_cannot_be_built_ends_all() -> None:
    tasks = [Task(item, (GREEDY,), 5.0) for item in (with_a_typo(ITEM), ITEM)]
    with pytest.raises(UsageError, match="gpt2_tiny"):
        list(run_in_workers(tasks, jobs=2))


def test_every_task_is_run_once_whatever_the_jobs() -> None:
    tasks = [Task(item, (GREEDY, FLOOR), 5.0) for item in small_suite(3).problems]
    for jobs in (2, 5):
        found = list(run_in_workers(tasks, jobs))
        rows = [one.row for one in found if isinstance(one, Outcome)]
        assert len(rows) == len({row.key for row in rows}) == 6
        assert all(row.feasible for row in rows)


def test_an_interrupted_bench_keeps_its_rows(tmp_path: Path) -> None:
    methods = "methods=[greedy,{name:local_search,evaluations:100000000}]"
    words = ["bench", "quality", "suite=smoke", methods, "time_limit_s=60", "out=run"]
    command = [sys.executable, "-m", "remora.cli.main", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows = tmp_path / "run" / "rows.jsonl"
    try:
        while not rows.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "go on with out=run resume=true" in out
    assert err.splitlines()[-1] == "remora: interrupted"
    (line,) = rows.read_text().splitlines()
    assert json.loads(line)["method"] == "greedy"
