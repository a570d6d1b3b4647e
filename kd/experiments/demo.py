"""A small distillation on drawn phantoms: from nothing to a comparison figure in about a minute."""

from pathlib import Path
from typing import Any

from kd.datasets import open_dataset
from kd.experiments.plan import DistillSpec
from kd.experiments.plan import plan_first_seed as plan_request
from kd.store.groups import Distillation
from kd.store.runs import Run, Store

# The teacher is one of timm's smallest and trains from scratch in a quarter of a minute. At three times the usual rate
# it is sure of its answers; one that is right without being sure makes students unsure too. The student needs a twelfth
# of its FLOPs.
REQUEST = DistillSpec(data="phantom-brain:count=600,difficulty=0.3", teacher="test_resnet", teacher_learning_rate=3e-3,
                      teacher_epochs=10, student="plain", depth=5, width=8, epochs=20, image_size=96)


def plan(store: Store) -> Distillation:
    """The demo's teacher, control and student."""
    return plan_request(REQUEST, store)


def compare(student: Run, store: Store, out: Path) -> dict[str, Any]:
    """Compare the demo's models on the first test image that shows a tumour, and write figure, maps and numbers."""
    from kd.inspection import compare as verb

    test = open_dataset(student.spec.data, student.spec.image_size, store.paths).test
    shown = next(number for number in range(len(test)) if test.evidence is not None and test.evidence[number].any())
    comparison = verb.compare(store, student, test.images[shown])
    comparison.save(out)
    return comparison.to_json()
