"""Schedulers that follow a fixed rule or a local search."""
