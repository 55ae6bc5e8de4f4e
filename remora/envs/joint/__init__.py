"""The environment over micro-batches, state, pace, options and groups, one by one or in batches."""
