"""Metrics of explanations, each beside its baseline. They take models, images and maps, and are independent of runs."""
