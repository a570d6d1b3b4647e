"""Numbers of a run's training images, known or estimated before it is started."""

from dataclasses import dataclass

from kd.spec import NONE, REST, RunSpec
from kd.training.batches import BatchPlan, batch_plan


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images: labelled and unlabelled ones that a run uses, and of those that its rows are numbered by."""

    labelled: float
    unlabelled: float
    split: int

    @classmethod
    def of(cls, spec: RunSpec, images: int, others: int = 0) -> "ImageCounts":
        """images: of the train split. others: of the folder without labels."""
        labelled = images * spec.data_fraction * (1 - 1 / spec.folds if spec.fold else 1)
        unlabelled = {NONE: 0.0, REST: images - labelled}.get(spec.unlabelled, others)
        return cls(labelled, unlabelled, images + (0 if spec.unlabelled in (NONE, REST) else others))

    def plan(self, spec: RunSpec) -> BatchPlan:
        """Make-up of an epoch."""
        return batch_plan(self.labelled, self.unlabelled, spec.batch_size)

    def shown(self, spec: RunSpec) -> float:
        """Images that all epochs show, the remainder of an epoch too where that is computed."""
        if not self.unlabelled:
            return spec.epochs * self.labelled
        plan = self.plan(spec)
        return spec.epochs * plan.steps * (plan.labelled + plan.unlabelled)

    def passes(self, spec: RunSpec) -> tuple[int, int]:
        """Passes over the labelled and over the unlabelled images."""
        if not self.unlabelled:
            return spec.epochs, 0
        plan = self.plan(spec)
        shown = spec.epochs * plan.steps
        return -int(-shown * plan.labelled // self.labelled), -int(-shown * plan.unlabelled // self.unlabelled)

    def rows(self, spec: RunSpec) -> float:
        """Views of images that a run needs, each once."""
        return sum(count * min(passes, spec.views or 1) for count, passes in zip(
            (self.labelled, self.unlabelled), self.passes(spec), strict=True))
