"""Layers that several ranks share, for real."""
