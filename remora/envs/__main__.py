"""Compile the kernels now, a minute's work, so that nobody waits for them later."""

from __future__ import annotations

import time

from remora.envs.warm_up import compile_kernels

if __name__ == "__main__":
    start_s = time.perf_counter()
    compile_kernels()
    print(f"compiled the environment in {time.perf_counter() - start_s:.0f} s")
