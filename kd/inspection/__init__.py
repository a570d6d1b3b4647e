"""Inspection of trained models on single images: explanations and comparisons."""
