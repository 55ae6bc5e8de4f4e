"""What a real run did and when, in the format of a simulated one."""
