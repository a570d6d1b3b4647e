"""Benchmarks of all claims about speed, measured against other packages or a plain implementation in one run."""

from kd.torch_utils import compute

compute.wait_without_spinning()  # as in the measured programs; before torch is imported
