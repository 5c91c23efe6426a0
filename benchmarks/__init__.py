"""The costs of boxes: each figure with a floor or a peer that was measured in the same run (docs/benchmarks.md)."""
