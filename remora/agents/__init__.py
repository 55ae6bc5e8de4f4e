"""Schedulers behind one face: heuristics, exact solvers and learned policies."""
