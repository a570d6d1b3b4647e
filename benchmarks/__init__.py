"""What is claimed about speed, measured against peers or the plain way in one run."""

from kd import arithmetic

arithmetic.wait_without_spinning()  # as the programs that are measured do; before torch is imported
