"""Profiled runs on disk: what was measured of which model on which device."""
