"""Stage maps and masks of the tracked images, recorded after every epoch (files: `kd.store.probe_images`)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kd.datasets.base import Split
from kd.datasets.tensors import to_tensor
from kd.models.base import Classifier
from kd.models.masked_student import MaskedStudent
from kd.observation import Observation, stage_map
from kd.store import probe_images
from kd.store.runs import Run


def start_tracking(run: Run, model: Classifier, val: Split, device: torch.device) -> NDArray[np.uint8]:
    """Choose the tracked images [P, S, S, 3] and store them, and the fill of a masked student for them."""
    images = probe_images.store_images(run, val.images, val.labels)
    if isinstance(model, MaskedStudent):
        with torch.inference_mode():
            tensors = to_tensor(images, device)
            fill = model.apply_mask(tensors, torch.zeros_like(tensors[:, 0]))
        probe_images.store_fill(run, (fill.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return images


def record_maps(run: Run, epoch: int, model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> None:
    """Store the stage maps and masks of the tracked images after an epoch. model: in eval mode."""
    with torch.inference_mode():
        seen: Observation = model(to_tensor(images, device))
        mask = None if seen.mask is None else seen.mask.float().cpu().numpy()
        probe_images.store_maps(run, epoch, [stage_map(stage).float().cpu().numpy() for stage in seen.stages], mask)
