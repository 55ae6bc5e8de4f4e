"""What long searches find for drawn problems: the data that a policy is taught with."""
