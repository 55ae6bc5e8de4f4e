"""The loop over parts: what there is time for, in order, saved after every one."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from benchmarks.gpu_campaign.journal import Told
from benchmarks.gpu_campaign.part_process import PartState, run_part
from benchmarks.gpu_campaign.parts import Part
from benchmarks.gpu_campaign.results import Results
from remora.api.rank_processes import run_ranks
from remora.hardware.cache import CACHE_FOLDER_VARIABLE

__all__ = ["run_campaign"]

_SAVING_S = 5.0
_MOST_TO_COMPILE_S = 120.0
_COMPILER = "benchmarks.gpu_campaign.warm_up"


def run_campaign(
    parts: Sequence[Part], results: Results, device: str, seconds: float
) -> tuple[str, ...]:
    """Run the parts that are not done, as far as the time goes.

    Args:
        parts: in order of importance.
        results: states of earlier runs; saved after every part and at every end.
        device: ``cuda`` or ``cpu``.
        seconds: until the campaign has to be over.

    Returns:
        Names of the parts that are not done.

    Raises:
        OSError: the results could not be written.
        KeyboardInterrupt: interrupted; the results until then are saved.
    """
    start_s = time.monotonic()
    deadline_s = start_s + seconds - _SAVING_S
    for part in parts:
        results.state(part.name)
    # A folder that cannot be written to is found out before anything is measured.
    results.save()
    with _fresh_measurements(), _one_device(device):
        if any(_can_begin(part, results, deadline_s) for part in parts):
            _compile(deadline_s)
        counted_s = start_s
        for part in parts:
            if not _can_begin(part, results, deadline_s):
                continue
            state, left_s = results.state(part.name), deadline_s - time.monotonic()
            _say(f"{part.name}: {left_s:.0f} s are left")
            told: list[Told] = []
            try:
                run_part(part, state, device, left_s, told)
            finally:
                now_s = time.monotonic()
                results.add_seconds(now_s - counted_s)
                counted_s = now_s
                results.take_rows(told)
                results.save()
            _say(f"{part.name}: {_outcome(state)}")
    results.save()
    return tuple(part.name for part in parts if not results.state(part.name).ended)


def _can_begin(part: Part, results: Results, deadline_s: float) -> bool:
    enough = deadline_s - time.monotonic() >= part.least_s
    return enough and not results.state(part.name).ended


def _outcome(state: PartState) -> str:
    words = f"{state.status} after {state.seconds:.0f} s, {len(state.records)} items"
    if state.faults:
        words += f", {len(state.faults)} faults"
    return f"{words} ({state.detail})" if state.detail else words


@contextlib.contextmanager
def _fresh_measurements() -> Iterator[None]:
    """Keep measurements of this campaign from those of other programs on the machine."""
    with tempfile.TemporaryDirectory(prefix="remora-campaign-") as folder:
        before = os.environ.get(CACHE_FOLDER_VARIABLE)
        os.environ[CACHE_FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[CACHE_FOLDER_VARIABLE]
            if before is not None:
                os.environ[CACHE_FOLDER_VARIABLE] = before


@contextlib.contextmanager
def _one_device(device: str) -> Iterator[None]:
    """Let processes see one CUDA device, or none; and let cuBLAS repeat itself bit by bit."""
    wanted = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if device == "cpu":
        wanted["CUDA_VISIBLE_DEVICES"] = ""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _compile(deadline_s: float) -> None:
    """Compile what numba has not compiled on this machine, before any clock runs."""
    limit_s = min(_MOST_TO_COMPILE_S, max(1.0, deadline_s - time.monotonic()))
    ended = run_ranks(_COMPILER, [], 1, limit_s)
    if ended.status != "ok":
        _say(f"the kernels were not compiled before: {ended.detail}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
