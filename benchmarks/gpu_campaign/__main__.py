"""The command; see the package."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from benchmarks.gpu_campaign.campaign import run_campaign
from benchmarks.gpu_campaign.machine import about_machine
from benchmarks.gpu_campaign.parts import REAL, TINY, parts_of
from benchmarks.gpu_campaign.results import Results
from remora.errors import InvalidInputError, RemoraError, UnknownNameError, UsageError

__all__ = ["main"]

_DEFAULTS = {
    "out": "outputs/gpu_campaign",
    "minutes": "8",
    "device": "",
    "models": "",
    "sizes": "",
}


def main(words: list[str]) -> int:
    """Run a campaign; returns the exit code.

    0: it ended in time, whatever it found; 2: wrong usage; 5: the results could not be written;
    130: interrupted.
    """
    try:
        values = _arguments(words)
        seconds = 60 * _minutes(values["minutes"])
        command = " ".join(["python -m benchmarks.gpu_campaign", *words])
        device, about = about_machine(values["device"], command)
        models = [name for name in values["models"].split(",") if name]
        sizes = values["sizes"] or (REAL if device == "cuda" else TINY)
        parts = parts_of(sizes, models)
        results = Results(Path(values["out"]), about)
    except RemoraError as error:
        print(f"gpu_campaign: {error}", file=sys.stderr)
        return error.exit_code
    try:
        left = run_campaign(parts, results, device, seconds)
    except KeyboardInterrupt:
        print(f"interrupted; {values['out']} holds what was done until then", file=sys.stderr)
        return 130
    except (OSError, UsageError) as error:
        print(f"gpu_campaign: the results could not be written: {error}", file=sys.stderr)
        return 5
    if left:
        print(f"no time for: {', '.join(left)}; the same command goes on", file=sys.stderr)
    print(Path(values["out"]) / "results.md")
    return 0


def _arguments(words: list[str]) -> dict[str, str]:
    values = dict(_DEFAULTS)
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key not in _DEFAULTS:
            raise UnknownNameError("argument", word, [f"{name}=" for name in _DEFAULTS])
        values[key] = value
    return values


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not (math.isfinite(minutes) and minutes > 0):
        raise InvalidInputError(f"minutes is {text!r}; allowed: a number above 0")
    return minutes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
