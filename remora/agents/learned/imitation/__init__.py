"""Learning from plans that others found: searches, exact solvers, and the policy's own best."""
