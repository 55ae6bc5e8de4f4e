"""Running a program on paper: time, memory, bounds, and the records of a real run."""
