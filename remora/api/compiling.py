"""Saying so where the simulator has to be compiled first, which takes about a minute."""

from __future__ import annotations

import logging
from pathlib import Path

__all__ = ["announce_compiling"]

_LOG = logging.getLogger(__name__)


def announce_compiling() -> None:
    """Log a sentence if the kernels of the simulator are in no cache, so that the wait is known."""
    from remora.simulator.compiled.batch_kernel import simulate_batch

    # A plain function where compiling is switched off.
    stats = getattr(simulate_batch, "stats", None)
    if stats is None or any(Path(stats.cache_path).glob("batch_kernel.simulate_batch-*.nbi")):
        return
    _LOG.warning(
        "the simulator is compiled now, once, in about a minute; "
        "python -m remora.simulator.compiled does it beforehand"
    )
