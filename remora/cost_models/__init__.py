"""Models of step time and peak memory: roofline, profiled and learned."""
