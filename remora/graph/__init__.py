"""Tracing of a PyTorch module into a frozen graph of operators, storages and units."""
