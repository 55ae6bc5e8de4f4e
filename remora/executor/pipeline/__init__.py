"""Runs schedules with micro-batches and stages, one process per rank."""
