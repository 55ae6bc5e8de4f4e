"""Schedulers of inference: which weights and caches wait on the host, and where stages begin."""
