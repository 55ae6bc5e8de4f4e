"""Dynamic programs over the chain of units: recomputation, and recomputation with offload."""
