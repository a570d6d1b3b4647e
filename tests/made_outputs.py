"""Observations made of random numbers in float64, and teacher outputs of them, for tests of methods."""

import torch

from kd.methods import METHODS, Method, build
from kd.observation import MaskSamples, Observation, select_output

TARGET = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
OURS = ((4, 8), (6, 4))  # (channels, side) of each stage of a student, and of its teacher
THEIRS = ((5, 8), (7, 4), (8, 2))
TEACHING = [name for name in METHODS if METHODS[name].needs_teacher]
# terms that teach an explainer, not the student behind it
OF_THE_MASK = {"target"}


def observe(seed: int, classes: int = 4, batch: int = 8, stages=OURS, grad: bool = False) -> Observation:
    """A model's observation; grad: of leaves that want a gradient."""
    source = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=source, dtype=torch.float64).requires_grad_(grad)

    side = stages[-1][1]
    seen = Observation(some(classes), tuple(some(c, s, s) for c, s in stages), some(classes, side, side))
    return seen._replace(mask_samples=MaskSamples(some(3, 3), some(classes)))


def leaves(seen: Observation) -> tuple[torch.Tensor, ...]:
    return seen.logits, *seen.stages, seen.cams, *seen.mask_samples


def of_leaves(seen: Observation, parts: tuple[torch.Tensor, ...]) -> Observation:
    """The observation with other leaves."""
    logits, *stages, cams = parts[:-len(seen.mask_samples)]
    return Observation(logits, tuple(stages), cams, mask_samples=MaskSamples(*parts[-len(seen.mask_samples):]))


def answers(student: Observation) -> torch.Tensor:
    """Logits [N·B, K] of all that a student behind an explainer was shown."""
    return torch.cat([student.logits, student.mask_samples.answers])


def ready(name: str, student: Observation, teacher: Observation, **args: float) -> Method:
    """The method with its projector, if any, made for these two."""
    torch.manual_seed(0)
    method = build(name, args)
    method.setup(*(tuple(tuple(stage.shape[1:]) for stage in seen.stages) for seen in (student, teacher)))
    return method.double()


def outputs(method: Method, teacher: Observation) -> dict[str, torch.Tensor]:
    """The outputs that a method needs, and the targets of a mask network where there is one."""
    found = {name: select_output(teacher, name) for name in method.teacher_outputs}
    return {**found, "mask_target": mask_target(len(teacher.logits))} if method.needs_mask_net else found


def mask_target(count: int) -> torch.Tensor:
    """Made-up target maps [count, 6, 6], each of 4 places of a 3 × 3 grid; the first image has none."""
    maps = torch.rand(count, 6, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    maps[0] = 0
    return maps


def terms(name: str, student: Observation, teacher: Observation, target=TARGET, progress: float = 1.0,
          **args: float) -> dict[str, torch.Tensor]:
    method = ready(name, student, teacher, **args)
    return method(student, outputs(method, teacher), target[:len(student.logits)], progress)


def taught(found: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the terms that come of the teacher add up to."""
    return sum(value for key, value in found.items() if key != "hard")
