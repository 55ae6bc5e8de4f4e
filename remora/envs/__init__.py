"""The Gymnasium environment in which scheduling agents learn."""
