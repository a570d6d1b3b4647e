"""The engine of KD Lens: distilling image classifiers and explaining what the student learned."""

import os

# Two OpenMP threads that spin while they wait collapse when another thread (a page) wants the core.
# The runtime reads this once, when torch is imported; so it must stand before any such import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
