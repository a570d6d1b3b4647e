"""Audits of data sets: whether a score on one can be believed, and what a model must beat. Without torch."""
