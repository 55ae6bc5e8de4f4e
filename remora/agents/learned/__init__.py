"""The learned scheduler: policy, training and decoding."""
