"""A learned cost model: operator times by graph networks, and a correction of whole steps."""
