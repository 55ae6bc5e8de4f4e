"""Episodes that plan passes of inference: the same actions and observations as for training."""
