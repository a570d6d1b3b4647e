"""Run folders as training leaves them, without the training: random weights, true costs."""

from dataclasses import replace

import numpy as np
import torch
from fabricate import summarise

from kd.methods import complete
from kd.models import build_untrained, cost, weights
from kd.models.masked_student import MaskedStudent
from kd.spec import RunSpec
from kd.store.runs import Run, Store

CLASSES = ("glioma", "meningioma", "none")
TEACHER = RunSpec(model="plain", depth=3, width=8, image_size=32)
CONTROL = RunSpec(model="plain", depth=2, width=4, image_size=32)


def made(store: Store, spec: RunSpec, classes: tuple[str, ...] = CLASSES, finished: bool = True) -> Run:
    """A run with weights; unfinished, it has logged its classes but has no summary."""
    run = store.create(spec)
    torch.manual_seed(spec.seed)
    model = build_untrained(spec, len(classes))
    if isinstance(model, MaskedStudent):  # before training its masks are open everywhere
        torch.nn.init.normal_(model.mask_net.score.weight, generator=torch.Generator().manual_seed(spec.seed))
    weights.save(model, run.weights)
    run.log("data", classes=list(classes))
    if finished:
        price = cost.cost(spec, len(classes))
        summarise(run, classes=list(classes), parameters=price.parameters, flops=price.flops)
    return run


def made_trio(store: Store) -> tuple[Run, Run, Run]:
    """Teacher, control and student."""
    teacher = made(store, TEACHER)
    return teacher, made(store, CONTROL), made(store, student_spec(teacher))


def made_explained_trio(store: Store) -> tuple[Run, Run, Run]:
    """Teacher, control and a student behind a mask."""
    teacher = made(store, TEACHER)
    return teacher, made(store, CONTROL), made(store, explained_spec(teacher))


def explained_spec(teacher: Run) -> RunSpec:
    return replace(CONTROL, method="medtex", method_args=complete("medtex", {}), teacher=teacher.id, mask_net_depth=2,
                   mask_net_width=4, mask_area=0.2, mask_target="sensitivity")


def student_spec(teacher: Run) -> RunSpec:
    return replace(CONTROL, method="kd", method_args={"alpha": 0.5, "temperature": 4.0}, teacher=teacher.id)


def picture(seed: int = 0, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
