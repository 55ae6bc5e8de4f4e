"""``remora bench peers``: what PyTorch offers against memory, and Remora, side by side."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from remora.api.bench.peers.run import (
    PeersRequest,
    peers_notes,
    peers_sections,
    run_peers,
    write_peers,
)
from remora.cli.bench_output import print_sections
from remora.cli.console import output, print_files, progress_shown
from remora.cli.request import plain

__all__ = ["peers_request", "run"]


def run(config: DictConfig) -> None:
    """Measure, solve, print the tables and write the files.

    Raises:
        UsageError: a value is not allowed.
    """
    request = peers_request(config)
    console = output()
    with progress_shown() as progress:
        result = run_peers(request, progress.stage)
    print_sections(console, peers_sections(result), peers_notes(result))
    print_files(console, write_peers(request, result))


def peers_request(config: DictConfig) -> PeersRequest:
    """Read the configuration.

    Raises:
        UsageError: a value is not allowed.
    """
    values = plain(config)
    words = [word for word in sys.argv[1:] if not word.startswith("out=")]
    return PeersRequest(
        models=tuple(values["models"]),
        ranges=tuple(values["ranges"]),
        time_limit_s=config.time_limit_s,
        repetitions=config.repetitions,
        cost_model=config.costs,
        out=Path(config.out),
        command=" ".join(["remora", *words]),
    )
