"""``bench fidelity``: how far cost models are from measured runs of families they never saw."""
