"""Commands that measure Remora; each writes JSON and a Markdown table to `benchmarks/results`."""
