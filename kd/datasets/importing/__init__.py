"""Bringing data in from elsewhere: what a source is, is shown first; then it is written as a named set."""
