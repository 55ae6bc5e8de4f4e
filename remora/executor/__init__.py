"""Making a schedule happen on real devices, measuring and verifying it."""
