"""One policy for whole plans: pipeline, micro-batches, state, and every unit of the model."""
