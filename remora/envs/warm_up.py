"""Compile the kernels on a tiny model; later processes find them in numba's cache."""

from __future__ import annotations

import numpy as np

from remora.envs.batch import EpisodeBatch
from remora.envs.jit import note_compiled
from remora.envs.observation import JointSize
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.simulator.compiled.tiny_problem import tiny_problem

__all__ = ["compile_kernels"]


def compile_kernels() -> None:
    """Take one step of an episode of each kind, which compiles all that is not in the cache."""
    for ranks in (1, 2):
        tables = ProblemTables("tiny", tiny_problem(1.0, ranks))
        batch = EpisodeBatch(JointSampler([tables]), 1, JointSize(4, 8))
        batch.begin(0, 0, tables.keep_all_bytes + tables.least_bytes)
        batch.step(np.array([0]))
    note_compiled()
