"""Collecting profiled runs: subjects, the process that measures one, and the loop over all."""
