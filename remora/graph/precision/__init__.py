"""Units that compute in fewer bits than their model."""
