"""Multiruns by every launcher that needs no cluster; each job is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
JOBS = ["model=resnet_tiny", "memory=range:0.5", "hardware=rtx3090,v100_16g"]
LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra.launcher.n_jobs=2",),
    "submitit_local": ("hydra.launcher.timeout_min=10",),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_ends_in_one_table(launcher: str, tmp_path: Path) -> None:
    words = [*JOBS, f"hydra/launcher={launcher}", *LAUNCHERS[launcher], f"out={tmp_path / 'sweep'}"]
    command = [sys.executable, "-m", "remora.cli.main", "fits", "-m", *words]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert (tmp_path / "sweep" / "0" / "job.json").exists()
    table = (tmp_path / "sweep" / "sweep.md").read_text()
    assert "| job | hardware | figure |" in table
    assert "rtx3090" in table
    assert "v100_16g" in table
    assert "sweep.md" in ran.stdout
