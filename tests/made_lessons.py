"""Observations made of random numbers in float64, and lessons of them, for tests of methods."""

import torch

from kd.methods import METHODS, Method, build
from kd.observation import Observation, aspect

TARGET = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
OURS = ((4, 8), (6, 4))  # (channels, side) of each stage of a student, and of its teacher
THEIRS = ((5, 8), (7, 4), (8, 2))
TEACHING = [name for name in METHODS if METHODS[name].needs_teacher]


def observe(seed: int, classes: int = 4, batch: int = 8, stages=OURS, grad: bool = False) -> Observation:
    """A model's observation; grad: of leaves that want a gradient."""
    source = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=source, dtype=torch.float64).requires_grad_(grad)

    side = stages[-1][1]
    return Observation(some(classes), tuple(some(c, s, s) for c, s in stages), some(classes, side, side))


def leaves(seen: Observation) -> tuple[torch.Tensor, ...]:
    return seen.logits, *seen.stages, seen.cams


def ready(name: str, student: Observation, teacher: Observation, **args: float) -> Method:
    """The method with its projector, if any, made for these two."""
    torch.manual_seed(0)
    method = build(name, args)
    method.prepare(*(tuple(tuple(stage.shape[1:]) for stage in seen.stages) for seen in (student, teacher)))
    return method.double()


def lesson(method: Method, teacher: Observation) -> dict[str, torch.Tensor]:
    return {name: aspect(teacher, name) for name in method.wants}


def terms(name: str, student: Observation, teacher: Observation, target=TARGET, progress: float = 1.0,
          **args: float) -> dict[str, torch.Tensor]:
    method = ready(name, student, teacher, **args)
    return method(student, lesson(method, teacher), target[:len(student.logits)], progress)


def taught(found: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the terms that come of the teacher add up to."""
    return sum(value for key, value in found.items() if key != "hard")
