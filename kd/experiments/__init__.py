"""Experiments: plans of runs that belong together and answer one question."""
