"""What the learned cost model is held against."""
