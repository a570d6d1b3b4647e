"""Evaluation of a run on its test split: predictions, report and explanation metrics."""
