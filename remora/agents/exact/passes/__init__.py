"""Exact choice of what waits on the host in inference."""
