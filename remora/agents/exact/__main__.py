"""Compile the kernels of the exact solvers now, so that nobody waits for them later."""

from __future__ import annotations

import time

from remora.agents.exact.warm_up import warm_up

if __name__ == "__main__":
    start_s = time.perf_counter()
    warm_up()
    print(f"compiled the solvers in {time.perf_counter() - start_s:.0f} s")
