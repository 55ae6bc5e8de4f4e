"""Starting the campaign as users do, and what its folder holds afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOST_FILES = 8

BLOCKED = (
    "gymnasium",
    "stable_baselines3",
    "sb3_contrib",
    "hydra",
    "omegaconf",
    "wandb",
    "platformdirs",
    "psutil",
    "scipy",
    "highspy",
    "ortools",
)
"""What a machine with a GPU need not have."""

# Python imports this before anything else, in every process of the campaign.
_BLOCKER = f"""
import importlib.util
import sys

BLOCKED = frozenset({BLOCKED!r})


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{{name}} is blocked")
        return None


def find_spec(name, package=None):
    # A package that is absent is no error for those who only ask.
    return None if name.partition(".")[0] in BLOCKED else real(name, package)


sys.meta_path.insert(0, Blocker())
real = importlib.util.find_spec
importlib.util.find_spec = find_spec
"""


def command(out: Path, *words: str) -> list[str]:
    """The command on the CPU."""
    return [
        sys.executable,
        "-m",
        "benchmarks.gpu_campaign",
        f"out={out}",
        "device=cpu",
        *words,
    ]


def environment(folder: Path, blocked: bool) -> dict[str, str]:
    """What the command runs in; temporary files go to ``folder``."""
    added = {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    if blocked:
        (folder / "sitecustomize.py").write_text(_BLOCKER)
        added["PYTHONPATH"] = str(folder)
    return {**os.environ, **added}


def read_results(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert values["version"] == 1
    return values


def records_of(part: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    """Records of a section by label."""
    return {r["label"]: r for r in part["records"] if r["section"] == section}


def check_files(out: Path) -> None:
    """Few of them, and no temporary ones."""
    names = sorted(path.name for path in out.iterdir())
    assert len(names) <= MOST_FILES
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
