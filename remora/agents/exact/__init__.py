"""Exact solvers: dynamic programs and integer programs with proven optima."""
