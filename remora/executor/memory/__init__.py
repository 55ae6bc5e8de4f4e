"""Recompute, offload and compress: applying a memory plan to a PyTorch module."""
