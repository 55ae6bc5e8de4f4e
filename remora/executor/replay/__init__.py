"""Runs traced operators again on made-up tensors, without the model, and measures them."""
