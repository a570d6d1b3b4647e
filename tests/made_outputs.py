"""Observations made of random numbers in float64, and teacher outputs of them, for tests of methods."""

import torch

from kd.methods import METHODS, Method, build
from kd.observation import MaskSamples, Observation, select_output

TARGET = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
OURS = ((4, 8), (6, 4))  # (channels, side) of each stage of a student, and of its teacher
THEIRS = ((5, 8), (7, 4), (8, 2))
TEACHING = [name for name in METHODS if METHODS[name].needs_teacher]
# terms that teach an explainer, not the student behind it
OF_THE_MASK = {"sufficiency", "comprehensiveness", "mask_penalty", "total_variation"}


def observe(seed: int, classes: int = 4, batch: int = 8, stages=OURS, grad: bool = False,
            samples: int = 1) -> Observation:
    """A model's observation; grad: of leaves that want a gradient. samples: masks drawn per picture, beside as many
    random ones."""
    source = torch.Generator().manual_seed(seed)

    def some(*shape: int, count: int = batch) -> torch.Tensor:
        return torch.randn(count, *shape, generator=source, dtype=torch.float64).requires_grad_(grad)

    side, half = stages[-1][1], samples * ((batch + 1) // 2)
    seen = Observation(some(classes), tuple(some(c, s, s) for c, s in stages), some(classes, side, side))
    drawn = MaskSamples(some(3, 3), some(3, 2, 2, count=half), some(3, 2, 2, count=half),
                  some(classes, count=(samples + 1) * batch))
    return seen._replace(mask_samples=drawn)


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


def outputs(method: Method, teacher: Observation, student: Observation | None = None) -> dict[str, torch.Tensor]:
    """The outputs that a method needs, and those of its live queries where there is a student to make the images."""
    asked = {name: answer(teacher, student.mask_samples, name) for name in method.live_queries} if student else {}
    return {**{name: select_output(teacher, name) for name in method.teacher_outputs}, **asked}


def answer(teacher: Observation, drawn: MaskSamples, name: str) -> torch.Tensor:
    """A made-up teacher on what was drawn of its pictures: the brighter that is, the surer it says the same."""
    pictures, said = getattr(drawn, name), teacher.logits.detach()
    own = halves(said)[name]
    return own.repeat(len(pictures) // len(own), 1) * (1 + pictures.mean(dim=(1, 2, 3)))[:, None]


def halves(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """The pictures of a batch of which a part is shown, and those of which the rest is."""
    return {"shown": rows[:(len(rows) + 1) // 2], "rest": rows[len(rows) // 2:]}


def terms(name: str, student: Observation, teacher: Observation, target=TARGET, progress: float = 1.0,
          **args: float) -> dict[str, torch.Tensor]:
    method = ready(name, student, teacher, **args)
    return method(student, outputs(method, teacher, student), target[:len(student.logits)], progress)


def taught(found: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the terms that come of the teacher add up to."""
    return sum(value for key, value in found.items() if key != "hard")
