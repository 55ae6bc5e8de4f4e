"""Tests of the zoo and of the files that name its models and hardware."""
