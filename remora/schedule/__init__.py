"""Schedules and their parts, problems, costs, validation and lowering to programs."""
