"""Cuts and memory options of pipelines by a two-level dynamic program."""
