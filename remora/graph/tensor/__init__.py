"""Cutting a model's layers over ranks: which of them, how, and the collectives between."""
