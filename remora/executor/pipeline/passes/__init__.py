"""Passes of inference on the ranks of a pipeline: forwards alone, and token after token."""
