"""Compiles what numba has not compiled on this machine, side by side; one process that waits."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["main"]

COMPILERS = ("remora.simulator.compiled", "remora.agents.exact")


def main() -> int:
    """Run the compilers of the kernels; 1 if one of them failed."""
    running = [subprocess.Popen([sys.executable, "-m", module]) for module in COMPILERS]
    return int(any([process.wait() for process in running]))


if __name__ == "__main__":
    sys.exit(main())
