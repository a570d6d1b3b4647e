"""Out-of-fold soft targets: the answer to every image of a network that was trained without it (cross-fitting).

A network is right on nearly all images that it was trained on, so its answers say little but the label. Networks with
the same recipe, each trained without one fold of the images, answer those of that fold as the teacher answers a new
image; but their errors are learnt, unless the label is put on top where they are wrong.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.evaluation import predict
from kd.methods import Method, require_logits_only
from kd.models import weights
from kd.models.base import Classifier
from kd.models.factory import architecture, meta_model
from kd.spec import OUT_OF_FOLD, RunSpec
from kd.store.row_files import Index
from kd.store.runs import FINISHED, Run, Store
from kd.torch_utils.memory_format import channels_last
from kd.training.batches import TrainBatches
from kd.training.precision import teacher_precision
from kd.training.subset import fold_of_images
from kd.training.teacher.cache import EVENT
from kd.training.teacher.cached_network import BatchOutputs, CachedNetwork
from kd.training.teacher.pending import PendingBatch
from kd.training.teacher.rows import cache_key, row_formats
from kd.training.teacher.target_scores import ACCURACY

LOGITS = "logits"


def fold_teachers(spec: RunSpec, teacher: Run, store: Store) -> list[Run]:
    """The finished runs that a student of this spec learns from in place of its teacher, by fold. Raises UsageError
    unless all have finished."""
    require_logits_only(spec.method)
    found = []
    for wanted in spec.fold_teachers(teacher.spec):
        run = store.find(wanted)
        if run is None or run.status != FINISHED:
            state = f"is {run.status}" if run else "is missing"
            raise UsageError(f"The fold teacher {wanted.id} {state}. Train it to its end first: the same distillation "
                             "once more does that.")
        found.append(run)
    return found


class OutOfFoldTeacher(CachedNetwork):
    """Logits of fold teachers for every batch of a student's training, each image's by the one trained without it.

    teacher: the run whose recipe they have, and whose cache theirs is. The models are loaded when first needed.
    spec: the student's.
    """

    event = EVENT

    def __init__(self, teacher: Run, folds: list[Run], spec: RunSpec, data: Dataset, method: Method, fabric: Fabric,
                 log: Callable[..., None] = lambda *_, **__: None) -> None:
        self.runs, self.classes, self.image_size = folds, len(data.classes), spec.image_size
        precision = teacher_precision(spec, str(fabric.strategy.precision.precision))
        key = cache_key(teacher, spec, data, fabric.device, precision, folds)
        super().__init__(teacher, key, row_formats(method, teacher.spec, spec.image_size, self.classes), fabric, log)
        self.networks, self.corrects = len(folds), spec.soft_targets == OUT_OF_FOLD
        self._network_of_image = fold_of_images(folds[0].spec, data) - 1
        self._fingerprints = [weights.fingerprint(run.weights) for run in folds]
        self._models: dict[int, Classifier] = {}
        self._seen, self._right = 0, torch.zeros((), device=fabric.device)

    def network_of(self, numbers: Index) -> Index:
        return self._network_of_image[numbers]

    def architecture(self) -> Classifier:
        return meta_model(architecture(self.runs[0].spec.at(self.image_size), self.classes))

    def batches(self, batches: TrainBatches, epoch: int,
                source: Iterator[BatchOutputs] | None = None) -> Iterator[BatchOutputs]:
        self._seen, self._right = 0, torch.zeros_like(self._right)
        yield from super().batches(batches, epoch, source)

    def complete(self, pending: PendingBatch) -> BatchOutputs:
        batch, outputs = super().complete(pending)
        logits = outputs[LOGITS]
        self._seen += int((batch.target >= 0).sum())
        self._right += (logits.argmax(dim=1) == batch.target).sum()
        return batch, {**outputs, LOGITS: label_on_top(logits, batch.target)} if self.corrects else outputs

    def epoch_scores(self) -> dict[str, float]:
        """Share of the present epoch's answers, in all processes, that are right before correction."""
        counts: Any = self.fabric.all_reduce(torch.stack([self._right, self._right.new_tensor(self._seen)]),
                                             reduce_op="sum")
        return {ACCURACY: float(counts[0] / counts[1])}

    def network(self, number: int) -> Classifier:
        """A frozen fold teacher. Raises UsageError when its weights have changed since."""
        if number not in self._models:
            run = self.runs[number]
            if weights.fingerprint(run.weights) != self._fingerprints[number]:
                raise UsageError(f"The weights of the fold teacher {run.id} changed while a student was learning from "
                                 "it. Start the student again.")
            self._models[number] = channels_last(predict.load(run, self.classes).requires_grad_(False)).to(
                self.fabric.device)
        return self._models[number]


def label_on_top(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [B, K] of which the label's [B] is the largest: where another was, the two have changed places. Those of
    an image without a label (−1) stay as they are."""
    rows, top = torch.arange(len(logits), device=logits.device), logits.argmax(dim=1)
    labels = torch.where(labels < 0, top, labels)
    found = logits.clone()
    found[rows, top], found[rows, labels] = logits[rows, labels], logits[rows, top]
    return found
