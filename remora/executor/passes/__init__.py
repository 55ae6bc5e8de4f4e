"""Passes of inference on one device: what comes and goes with the units, measured and verified."""
