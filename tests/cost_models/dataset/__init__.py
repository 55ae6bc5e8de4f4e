"""Tests of the dataset of profiled runs."""
