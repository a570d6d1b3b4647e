"""Experiments: planning, estimation and results of distillations, sweeps and learning curves."""
