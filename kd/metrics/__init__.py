"""Classification scores, bootstrap confidence intervals and map similarities, computed from arrays."""
