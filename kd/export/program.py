"""A run's model as one function of images: what an exported file computes, and how its outputs are called."""

from typing import Any

import torch
from torch import Tensor, nn

from kd.models.base import Classifier
from kd.models.eight_bit import CLASS_MAPS, LOGITS, STAGE
from kd.models.placement import placements

MASK = "mask"


class Program(nn.Module):
    """Logits, every stage's features, and class maps and mask where the model has them, as a tuple of tensors for RGB
    images [B, 3, S, S] in 0..1. Scaling and downsampling are part of it.

    Class maps are those of class activation mapping, `Σ_c w_kc·F_c` (Zhou 2016, arXiv 1512.04150): every class from one
    forward pass. A model whose head is more than pooling and one linear layer has none.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model
        self.has_maps = model.has_class_maps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen = self.model(images, cams=self.has_maps)
        found = (seen.logits, *seen.stages, seen.cams, seen.mask)
        return tuple(part for part in found if part is not None)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        stages = [f"{STAGE}{number}" for number in range(1, len(self.model.stages) + 1)]
        return (LOGITS, *stages, *[CLASS_MAPS] * self.has_maps, *[MASK] * self.model.has_mask)


def program(model: Classifier) -> Program:
    """The program of a model in eval mode, which is taken over; nothing in it is trained any more."""
    return Program(model.eval().requires_grad_(False)).eval()


def grids(model: Classifier, size: int) -> dict[str, dict[str, Any]]:
    """Of each stage's output for images of `size` pixels: its grid (rows, columns), its channels, and where its cells
    lie: centre of the first and distance of neighbours, (down, across) as shares of the side; None where it is not
    known."""
    device = model.mean.device
    with torch.no_grad():
        shapes = [tuple(maps.shape[1:]) for maps in model(torch.zeros(1, 3, size, size, device=device)).stages]
    return {f"{STAGE}{number}": {"channels": shape[0], "grid": list(shape[1:]),
                                "cells": place.to_json() if place else None}
            for number, (shape, place) in enumerate(zip(shapes, placements(model, size), strict=True), 1)}
