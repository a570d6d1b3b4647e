"""Small helpers for torch: random numbers, FLOPs, resizing, operations over processes."""
