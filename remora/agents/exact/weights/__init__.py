"""Which weights wait on the host, by an integer program."""
