"""Scores, bootstrap intervals and similarities of maps: numbers from arrays."""
