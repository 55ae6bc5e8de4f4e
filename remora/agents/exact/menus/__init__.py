"""Exact solvers over the memory options of units: HiGHS and CP-SAT."""
