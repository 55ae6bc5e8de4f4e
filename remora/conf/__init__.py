"""Hydra configuration groups, shipped inside the package."""
