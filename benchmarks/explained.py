"""Cost of one forward pass of a masked student, which gives label and mask, relative to its teacher.

The student of MED-TEX at the dashboard's defaults, relative to its teacher's forward pass and Grad-CAM; run and timed
by `benchmarks.explain`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.ratios import Call, Ratio, ratios
from kd.experiments.plan import DistillSpec
from kd.explainers import EXPLAINERS
from kd.models import build
from kd.models.base import Classifier
from kd.models.cost import cost
from kd.observation import Observation
from kd.spec import RunSpec

TEACHERS, SIZES, CLASSES = ("resnet18", "densenet121"), (96, 224), 4
BOTH, LABEL = ("label and mask", ""), ("label alone", "")


@dataclass(frozen=True)
class Beside:
    """Cost of a masked student relative to its teacher.

    forward, grad_cam: time relative to the teacher's forward pass, and to its Grad-CAM, by output. flops: relative to
    the teacher's forward pass.
    """

    teacher: str
    size: int
    batch: int
    forward: dict[tuple[str, str], Ratio]
    grad_cam: dict[tuple[str, str], Ratio]
    flops: float


def student(size: int) -> RunSpec:
    """The masked student at the dashboard's defaults."""
    chosen = DistillSpec()
    return RunSpec(model=chosen.student, depth=chosen.depth, width=chosen.width, image_size=size,
                   mask_net_depth=chosen.mask_net_depth, mask_net_width=chosen.mask_net_width,
                   mask_fill=chosen.mask_fill, mask_area=chosen.mask_area)


def measure(teachers: Sequence[str], sizes: Sequence[int], rounds: int, batches: Sequence[int]) -> list[Beside]:
    """Costs of the masked student, and of the same student without a mask network, relative to each teacher."""
    return [_beside(name, size, batch, rounds) for name in teachers for size in sizes for batch in batches]


def _beside(name: str, size: int, batch: int, rounds: int) -> Beside:
    about, theirs = student(size), RunSpec(model=name, image_size=size)
    teacher, both, alone = (build(spec, CLASSES).eval().requires_grad_(False)
                            for spec in (theirs, about, about.without_mask_net))
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    targets = _forward(teacher, images).logits.argmax(dim=1)
    calls: dict[tuple[str, str], Call] = {BOTH: lambda: _forward(both, images),
                                          LABEL: lambda: _forward(alone, images)}
    return Beside(name, size, batch, ratios(lambda: _forward(teacher, images), calls, rounds),
                  ratios(lambda: EXPLAINERS["grad-cam"](teacher, images, targets), calls, rounds),
                  cost(about, CLASSES).flops / cost(theirs, CLASSES).flops)


@torch.inference_mode()
def _forward(model: Classifier, images: Tensor) -> Observation:
    return model(images)


def table(found: Sequence[Beside]) -> str:
    """Table of the results."""
    lines = [f"{'teacher, px, pictures':<24}" + "".join(f"{head:>24}" for head in (
        "label+mask × forward", "label+mask × Grad-CAM", "label alone × forward", "share of FLOPs"))]
    for one in found:
        cells = (one.forward[BOTH], one.grad_cam[BOTH], one.forward[LABEL], f"{one.flops:.3f}")
        lines.append(f"{f'{one.teacher}, {one.size}, {one.batch}':<24}" + "".join(f"{cell!s:>24}" for cell in cells))
    return "\n".join(lines)


def goals(found: Sequence[Beside]) -> list[str]:
    """Claims for label and mask at the worst size and batch, and whether this run confirms them."""
    lines = []
    for name in dict.fromkeys(one.teacher for one in found):
        own = [one for one in found if one.teacher == name]
        for what, value, most in (("FLOPs of a forward pass", max(one.flops for one in own), 0.10),
                                  ("time of Grad-CAM", max(one.grad_cam[BOTH].median for one in own), 0.25)):
            verdict = "reached" if value <= most else "MISSED"
            lines.append(f"{verdict}: label and mask for at most {most:.2f} × the {what} of {name}: {value:.2f}")
    return lines
