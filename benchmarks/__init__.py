"""What is claimed about speed, measured against peers or the plain way in one run."""

from kd.torch_utils import compute

compute.wait_without_spinning()  # as the programs that are measured do; before torch is imported
