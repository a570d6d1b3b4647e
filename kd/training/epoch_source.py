"""Source of a run's training batches: with teacher outputs, target maps of the mask, and random masks over images."""

from collections.abc import Callable, Iterator, Sequence

import torch
from lightning_fabric import Fabric

from kd.datasets.base import Dataset
from kd.datasets.tensors import mean_image
from kd.store.runs import Run, Store
from kd.training.batches import TrainBatches
from kd.training.frozen_features import FrozenFeatures, epoch_batches
from kd.training.random_masks import RandomMasks
from kd.training.teacher.cached_network import BatchOutputs, CachedNetwork
from kd.training.teacher.cached_teacher import CachedTeacher
from kd.training.teacher.out_of_fold import OutOfFoldTeacher
from kd.training.teacher.target_maps import target_maps

Source = Callable[[int], Iterator[BatchOutputs]]


def epoch_source(run: Run, store: Store, data: Dataset, batches: TrainBatches, features: FrozenFeatures | None,
                 teacher: CachedTeacher | OutOfFoldTeacher | None, fabric: Fabric,
                 report: Callable[..., None]) -> Source:
    """From the number of an epoch to its batches, as the run's spec wants them. Enables the teacher's cache.

    report: as `Run.write_progress`. Raises UsageError as `target_maps` does.
    """
    spec = run.spec
    targets = masks = None
    if teacher:
        teacher.enable_cache(store, run, batches.shown(spec.epochs))
    if spec.mask_net_depth and isinstance(teacher, CachedTeacher):
        targets = target_maps(spec, data, teacher, store, run, batches.subset,
                              lambda share: report("computing the teacher's sensitivity maps", share=share))
    if spec.random_masks:
        masks = RandomMasks(spec.random_masks, torch.from_numpy(mean_image(data.train, batches.subset)))

    def source(epoch: int) -> Iterator[BatchOutputs]:
        found = epoch_batches(features, teacher, batches, epoch, fabric.device)
        found = targets.added(found) if targets else found
        return masks.over(found) if masks else found

    return source


def log_usage(cached: Sequence[CachedNetwork], batches: TrainBatches, log: Callable[..., None]) -> None:
    """Log how caches were used, and as `seconds` what this process's time went to: images, steps, and by network rows
    read and written, rows of other processes waited for, loading, computing."""
    for one in cached:
        one.log_usage()
    log("seconds", **batches.clock.seconds, **{one.event: one.clock.seconds for one in cached})
