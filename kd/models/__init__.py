"""Models by their spec: `plain`, `truncated`, or any CNN of timm by name.

Building draws its random numbers from `spec.seed` alone, whatever other threads do, and leaves the global generator
where it is: a preview does not disturb a run, and the same spec is the same initial weights.
"""

import os

# Read when huggingface_hub is imported, which timm does: the engine never prints, and never waits for long.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")

from kd.models.base import Classifier, Stage
from kd.models.catalogue import ModelEntry, search
from kd.models.factory import (
    backbone_parameters,
    build,
    build_untrained,
    check_weights,
    require_freezable,
    stage_count,
    stage_shapes,
    wants_float32,
)
from kd.models.timm_info import require_cnn

__all__ = [
    "Classifier",
    "ModelEntry",
    "Stage",
    "backbone_parameters",
    "build",
    "build_untrained",
    "check_weights",
    "require_cnn",
    "require_freezable",
    "search",
    "stage_count",
    "stage_shapes",
    "wants_float32",
]
