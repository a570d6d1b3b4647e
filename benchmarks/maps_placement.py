"""Where maps are painted and where the network looks, for several networks: the offset of maps that are stretched over
the image, and of those that lie at the centres of receptive fields.

Where a network looks is measured: the centroid of the gradient's magnitude of a unit in the middle of a large image,
for random images and combinations of channels, over random weights. It needs no data and no trained runs.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from benchmarks.maps_runs import table
from kd.errors import UsageError
from kd.models import build
from kd.models.base import Classifier
from kd.models.placement import placements
from kd.models.timm_info import timm_info
from kd.placement import Placement
from kd.spec import RunSpec

USUAL = ("plain", "resnet18", "mobilenetv2_100", "tf_efficientnet_b0", "densenet121", "convnext_atto")
IMAGES = 2

Pair = NDArray[np.float64]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--networks", default=",".join(USUAL), help="Separated by commas, or `families` for the "
                        f"smallest network of every family of timm (default {','.join(USUAL)}).")
    parser.add_argument("--size", type=int, default=448, help="Side of the images in pixels (default 448).")
    parser.add_argument("--seeds", type=int, default=3, help="Random weights to take the mean over (default 3).")


def lines(chosen: Namespace) -> Iterator[str]:
    """The table, as Markdown."""
    names = families() if chosen.networks == "families" else chosen.networks.split(",")
    yield f"\nLast stage at {chosen.size} px, mean of {chosen.seeds} random weights; down and across.\n"
    yield from table(("network", "cell, px", "stretched − seen, px", "painted − seen, px", "painted − seen, cells"),
                     (_row(name, chosen.size, chosen.seeds) for name in names))


def families() -> list[str]:
    """The network with the fewest parameters of every family of timm that can be explained."""
    smallest: dict[str, tuple[int, str]] = {}
    for name in timm.list_models(exclude_filters="test_*"):
        try:
            timm_info(name)
        except UsageError:
            continue
        family = timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1]
        with torch.device("meta"):
            size = sum(weight.numel() for weight in timm.create_model(name).parameters())
        smallest[family] = min(smallest.get(family, (size, name)), (size, name))
    return [name for _, name in smallest.values()]


@dataclass(frozen=True)
class _Offset:
    """Distances (down, across) from where a unit looks, and the size of a cell, in pixels."""

    stretched: Pair
    painted: Pair
    cell: float


def _row(name: str, size: int, seeds: int) -> tuple[str, ...]:
    try:
        found = [_offset(build(RunSpec(model=name, image_size=size, seed=seed), 2).eval(), size)
                 for seed in range(seeds)]
    except UsageError as error:
        return name, "", str(error), "", ""
    stretched, painted = (np.mean([getattr(one, kind) for one in found], axis=0) for kind in ("stretched", "painted"))
    return name, f"{found[0].cell:.0f}", _spelt(stretched, 1), _spelt(painted, 1), _spelt(painted / found[0].cell, 3)


def _offset(model: Classifier, size: int) -> _Offset:
    torch.manual_seed(0)
    images = torch.rand(IMAGES, 3, size, size, requires_grad=True)
    features = model.requires_grad_(False).forward_stages(model.prepare(images))[-1]
    grid, unit = (features.shape[2], features.shape[3]), features.shape[2] // 2
    score = (features[:, :, unit, unit] * torch.randn(IMAGES, features.shape[1])).sum()
    mass = torch.autograd.grad(score, images)[0].double().abs().sum(dim=(0, 1))
    at = (torch.arange(size).double() + 0.5) / size
    seen = np.array([float(mass.sum(dim=axis) @ at / mass.sum()) for axis in (1, 0)])
    laid = placements(model, size)[-1] or Placement.even(grid)
    stretched, painted = (np.array([axis[unit] for axis in one.centres(grid)]) for one in (Placement.even(grid), laid))
    return _Offset(size * (stretched - seen), size * (painted - seen), size * laid.step[0])


def _spelt(pair: Pair, digits: int) -> str:
    return ", ".join(f"{value:+.{digits}f}" for value in pair)
