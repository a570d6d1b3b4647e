"""Estimate of a distillation's time, memory and disk on this machine, each with its basis."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kd.datasets import DataRef, cache
from kd.datasets.splits import TRAINED
from kd.datasets.unlabelled import inspect_unlabelled
from kd.experiments.plan import MASK_NET_FIELDS, with_seeds
from kd.experiments.step_benchmark import StepBenchmark, benchmark_step
from kd.methods import METHODS
from kd.roles import ROLES
from kd.spec import NONE, REST, RunSpec
from kd.store.runs import FINISHED, Run, Store
from kd.torch_utils.compute import device_here
from kd.training.frozen_features import FrozenFeatures, caches_features, estimate_features
from kd.training.image_counts import ImageCounts
from kd.training.precision import resolve_precision, teacher_precision
from kd.training.teacher.cache import recorded_usage
from kd.training.teacher.rows import estimate

WORDS = 4  # copies of every weight while training: the weight, its gradient, AdamW's two moments
BYTES = 4
FOLD_TEACHER = "fold teacher"  # a role beside ROLES: of the networks that out-of-fold soft targets come from
MAP_PASSES = 6  # forward passes that a sensitivity map costs: of two images, each with a backward pass


@dataclass(frozen=True)
class RunEstimate:
    """Estimate for one role. seconds: 0 where it has finished before. basis: of the seconds, in words. runs: number of
    seeds, or folds, that are still to train, at least 1. teacher_seconds, frozen_seconds: of the seconds, the passes of
    the teacher and of frozen stages whose outputs are then cached for all runs alike. cache_bytes: of these outputs."""

    role: str
    seconds: float
    basis: str
    finished: bool
    runs: int = 1
    teacher_seconds: float = 0.0
    frozen_seconds: float = 0.0
    cache_bytes: int = 0


@dataclass(frozen=True)
class ResourceEstimate:
    """Estimate for the runs of a distillation. In bytes; memory: peak, without the program itself; None: not known."""

    run_estimates: tuple[RunEstimate, ...]
    images: int
    memory: int
    memory_free: int | None
    disk: int
    disk_free: int

    @property
    def seconds(self) -> float:
        return sum(need.seconds for need in self.run_estimates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings that memory or disk will not suffice, with the remedy."""
        short_of_memory = self.memory_free is not None and self.memory > self.memory_free
        return tuple(text for text, holds in (
            ("This needs more memory than is free now. Take a smaller batch, image size or model.", short_of_memory),
            ("This needs more disk than is free. Delete runs or data caches first.", self.disk > self.disk_free),
        ) if holds)


def estimate_resources(specs: tuple[RunSpec, RunSpec, RunSpec], data: DataRef, store: Store,
                       seeds: int = 1) -> ResourceEstimate:
    """Estimate for teacher, control and student specs on a data set. seeds: number of controls and students."""
    teacher, _, student = specs
    classes = len(data.classes)
    images = _training_images(teacher, data.images, store)
    large, middle, small = (benchmark_step(_bare(spec), classes) for spec in specs)
    first, *others = (_need(role, with_seeds(spec, number), teacher, classes, images, store) for role, spec, number
                      in zip(ROLES, specs, (1, seeds, seeds), strict=True))
    folds = [_fold_need(found, first, classes, images, store) for found in [student.fold_teachers(teacher)] if found]
    needs, trials = (first, *folds, *others), [large, *(large for _ in folds), middle, small]
    memory = max(_memory(large, teacher.batch_size, teacher.image_size),
                 _memory(small, student.batch_size, student.image_size)
                 + large.parameters * BYTES * max(1, student.folds))
    to_do = [need.runs * one.parameters for one, need in zip(trials, needs, strict=True) if not need.finished]
    disk = (sum(WORDS * parameters * BYTES for parameters in to_do) + sum(need.cache_bytes for need in needs)
            + _cache_bytes(teacher, data.images, store))
    free = _free_memory(torch.device(device_here(teacher.device)))
    return ResourceEstimate(needs, images, memory, free, disk, _free_disk(store.paths.root))


def estimate_run(spec: RunSpec, data: DataRef, store: Store) -> float:
    """Seconds that one run without a teacher takes to train; 0 where it has finished before."""
    return _need(ROLES[0], (spec,), spec, len(data.classes), _training_images(spec, data.images, store), store).seconds


def _fold_need(specs: Sequence[RunSpec], teacher: RunEstimate, classes: int, images: int, store: Store) -> RunEstimate:
    """Estimate for fold teachers; features of frozen stages that their teacher will compute are cached for them."""
    need = _need(FOLD_TEACHER, specs, specs[0], classes, images, store)
    if teacher.finished or not need.frozen_seconds:
        return need
    return replace(need, seconds=need.seconds - need.frozen_seconds, frozen_seconds=0.0, cache_bytes=0)


def _training_images(spec: RunSpec, total: int, store: Store) -> int:
    """Number of training images: that of a finished run of the same data set, else the usual share of all."""
    for run in store:
        if run.spec.data_fingerprint == spec.data_fingerprint and (images := _trained_on(run)):
            return images
    return round(TRAINED * total)


def _trained_on(run: Run) -> int:
    """Number of training images of a finished run's data set; 0 where it is not recorded."""
    counts = (run.summary or {}).get("data", {}).get("counts", {})
    return sum(counts.get("train", []))


def _need(role: str, specs: Sequence[RunSpec], teacher: RunSpec, classes: int, images: int,
          store: Store) -> RunEstimate:
    """Estimate for one role. specs: equal except for the seed, or the fold that is left out."""
    to_do = [spec for spec in specs if not ((run := store.find(spec)) and run.status == FINISHED)]
    if not to_do:
        return RunEstimate(role, 0.0, "finished before, used again", True)
    spec, runs = to_do[0], len(to_do)
    counts = ImageCounts.of(spec, images, _others(spec, store))
    steps = counts.shown(spec)
    cached, features = estimate(spec, teacher, classes, counts, store), estimate_features(spec, classes, counts, store)
    asked = replace(_bare(teacher), precision=teacher_precision(spec, resolve_precision(spec)))
    watching = benchmark_step(asked, classes).forward if METHODS[spec.method].needs_teacher else 0.0
    own = benchmark_step(_bare(spec), classes, caches_features(spec))
    if measured := _as_before(spec, teacher, store, watching, own.features):
        seconds, basis = steps * measured[0], f"as {measured[1]} took, with the same model, size and batch"
    else:
        # Validation, one forward pass over about a seventh as many images, comes on top of every epoch.
        seconds = steps * own.step + spec.epochs * images / 7 * own.forward
        basis = f"one step of {own.images} images timed on this machine"
    frozen_seconds = 0.0
    if caches_features(spec):
        frozen_seconds = (features.passes + images / 7) * own.features  # validation features are computed once
        basis += ", and its frozen stages once for each view"
    kept = frozen_seconds if features.size else 0.0
    teacher_seconds = cached.passes * watching
    once = teacher_seconds if cached.size else 0.0
    if spec.mask_target == "sensitivity":  # its maps of all images are kept with the teacher, too
        maps = MAP_PASSES * (counts.labelled + counts.unlabelled) * watching
        teacher_seconds, once = teacher_seconds + maps, once + maps
    own_seconds = seconds + frozen_seconds - kept + teacher_seconds - once
    return RunEstimate(role, runs * own_seconds + once + kept, basis, False, runs, once, kept,
                       cached.size + features.size)


def _others(spec: RunSpec, store: Store) -> int:
    """Number of images in a run's folder of unlabelled images."""
    if spec.unlabelled in (NONE, REST):
        return 0
    return inspect_unlabelled(spec.unlabelled, store.paths).images


def _as_before(spec: RunSpec, teacher: RunSpec, store: Store, watching: float,
               features: float) -> tuple[float, str] | None:
    """(seconds per image, run) of the median of similar finished runs, with validation and without the teacher's
    passes and those of frozen stages, which take `watching` and `features` seconds per image."""
    found = []
    for run in store:
        if _alike(run, spec, teacher, store) and (images := _trained_on(run)):
            trained_on = (run.summary or {}).get("images", {})
            steps = ImageCounts.of(run.spec, images, trained_on.get("unlabelled", 0)).shown(run.spec)
            passes = (recorded_usage(run) or {}).get("computed", steps if watching else 0)
            frozen = (run.last_event(FrozenFeatures.event) or {}).get("computed", 0) if features else 0
            seconds = (run.summary or {})["seconds"] - passes * watching - frozen * features
            found.append((max(0.0, seconds) / steps, run.id))
    return sorted(found)[len(found) // 2] if found else None


def _alike(run: Run, spec: RunSpec, teacher: RunSpec, store: Store) -> bool:
    other = run.spec
    same = all(getattr(other, name) == getattr(spec, name) for name in ("method", "batch_size", "device"))
    if not same or _bare(other) != _bare(spec) or bool(other.views) != bool(spec.views):
        return False
    theirs = store.get(other.teacher)
    return not other.teacher or (theirs is not None and _bare(theirs.spec) == _bare(teacher))


def _bare(spec: RunSpec) -> RunSpec:
    """The spec with only those settings that affect the time per image."""
    mask_net = {name: getattr(spec, name) for name in MASK_NET_FIELDS}
    return RunSpec(model=spec.model, depth=spec.depth, width=spec.width, base=spec.base, image_size=spec.image_size,
                   input_size=spec.input_size, frozen_stages=spec.frozen_stages, **mask_net, device=spec.device,
                   precision=resolve_precision(spec), threads=spec.threads, views=min(spec.views, 1),
                   mixup=float(spec.mixup > 0))


def _memory(one: StepBenchmark, batch: int, size: int) -> int:
    return WORDS * one.parameters * BYTES + batch * (one.activation_bytes + 3 * size**2 * BYTES)


def _cache_bytes(spec: RunSpec, images: int, store: Store) -> int:
    """Bytes of the decoded images and evidence masks; 0 where they are cached."""
    decoded = cache.is_decoded(spec.data_fingerprint, spec.image_size, store.paths)
    return 0 if decoded else images * spec.image_size**2 * 4


def _free_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _free_disk(root: Path) -> int:
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free
