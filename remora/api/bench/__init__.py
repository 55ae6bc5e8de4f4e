"""Comparing schedulers on suites of stored problems, and the best answers known to them."""
