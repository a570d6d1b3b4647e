"""What the teacher says of each batch."""

import torch
from lightning_fabric import Fabric

from kd import evaluate
from kd.batches import Batch
from kd.errors import UsageError
from kd.methods import Lesson, Method
from kd.models.base import Classifier
from kd.observation import Observation, aspect
from kd.runs import FINISHED, Run, Store
from kd.spec import RunSpec


def teacher_of(spec: RunSpec, store: Store, classes: tuple[str, ...]) -> Run:
    """The finished run that this one learns from. Raises UsageError unless it knows these classes."""
    if not spec.teacher:
        raise UsageError(f"Method {spec.method!r} needs a teacher. Name a finished run, or choose 'supervised'.")
    run = store[spec.teacher]
    if run.status != FINISHED:
        raise UsageError(f"The teacher {run.id} is {run.status}, not finished. Resume it first.")
    known = (run.summary or {})["classes"]
    if known != list(classes):
        raise UsageError(f"The teacher {run.id} knows the classes {', '.join(known)}; this data set has "
                         f"{', '.join(classes)}. Choose a teacher of this data set.")
    return run


class Teaching:
    """Gives a method's lesson for every batch: what the frozen teacher shows of exactly these views."""

    def __init__(self, run: Run, classes: int, method: Method, fabric: Fabric) -> None:
        self.wants, self.fabric = method.wants, fabric
        self.teacher: Classifier = evaluate.load(run, classes).requires_grad_(False).to(
            memory_format=torch.channels_last).to(fabric.device)

    def lesson(self, batch: Batch) -> Lesson:
        """The wanted aspects [B, …] of the teacher on a batch, float32, without gradient."""
        with torch.no_grad(), self.fabric.autocast():
            seen: Observation = self.teacher(batch.images, cams="cams" in self.wants)
        return {name: aspect(seen, name).float() for name in self.wants}
