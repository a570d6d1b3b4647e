"""Small helpers for torch: random numbers, FLOPs, operations over processes."""
