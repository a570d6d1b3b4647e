"""Answers of frozen models by the fastest engine that is exact enough: torch, or OpenVINO on a processor."""
