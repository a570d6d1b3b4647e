"""Training of one run, from its spec to its summary."""

import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from kd.datasets import open_dataset
from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import mean_image
from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.evaluation.run_warnings import WEIGHTS, run_warnings
from kd.methods import Method, TeacherOutputs
from kd.metrics import classification, mask_statistics
from kd.models import backbone_parameters, cost, weights
from kd.models import build as build_model
from kd.models.base import Classifier
from kd.models.masked_student import MaskedStudent
from kd.progress import ProgressReporter
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.runs import Run, Store
from kd.torch_utils import compute
from kd.torch_utils.memory_format import channels_last
from kd.training import checkpoint, distributed, first_epoch, tracked_images
from kd.training.batches import Batch, TrainBatches
from kd.training.checkpoint import TrainState
from kd.training.epoch_source import epoch_source, log_usage
from kd.training.frozen_features import prepare_features
from kd.training.precision import resolve_precision
from kd.training.predictions import predictions
from kd.training.step import TrainStep, build_step, decay_groups
from kd.training.teacher.cached_teacher import build_method_and_teacher
from kd.training.teacher.out_of_fold import OutOfFoldTeacher
from kd.training.teacher.target_scores import summary_entry
from kd.training.training_images import TrainingImages, training_images
from kd.version import VERSION


def train(run: Run, store: Store, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Training of `run`, resumed from its saved state where there is one; returns the run's summary.

    Same spec, same machine, same number of threads: same weights, also across a kill and a resume. The best epoch is
    chosen on the validation split, the summary reports the test split. Raises UsageError for what the user can correct,
    and Stopped when `should_stop`, called between batches, returns True.
    """
    spec = run.spec
    with distributed.quiet_fabric():
        fabric = _fabric(spec)
    is_main = fabric.is_global_zero
    report, log = (run.write_progress, run.log) if is_main else (lambda *_, **__: None,) * 2
    threads = compute.set_threads(compute.threads(spec.threads, _recorded_threads(run)))
    log("started", device=str(fabric.device), precision=_precision(fabric), threads=threads, world=fabric.world_size,
        versions=versions())
    with distributed.raise_together(fabric):
        data, images = _open(run, store)
        # Unfinished runs can be explained too, and their summary, which names the classes, comes last.
        log("data", classes=list(data.classes), flip=data.info.flip)
        report("building the models")
        model = channels_last(build_model(store.with_weights_file(spec), len(data.classes)))
        if model.initial_notes:
            log(WEIGHTS, notes=model.initial_notes)
        trained_on = images.within(data)
        method, teacher = build_method_and_teacher(spec, store, trained_on, fabric, log)
        optimizer = _optimizer(spec, model, method, len(data.classes))
        batches = _batches(spec, images, data.info.flip, fabric)
        if isinstance(model, MaskedStudent):
            model.set_mean_image(torch.from_numpy(mean_image(images.split, batches.subset)))
        features, of_validation = prepare_features(run, store, model, method, trained_on, batches.shown(spec.epochs),
                                                   fabric, log)
        epoch_batches = epoch_source(run, store, trained_on, batches, features, teacher, fabric, report)
    example = next(epoch_batches(0)) if fabric.world_size > 1 else None
    trained = features.later if features else model
    step = build_step(fabric, trained, method, optimizer, example)
    with distributed.raise_together(fabric):
        progress = checkpoint.restore(run, model, method, optimizer, fabric.strategy.precision)
    stop = distributed.agree_to_stop(should_stop, fabric)
    tracked = tracked_images.start_tracking(run, model, data.val, fabric.device) if is_main else None

    for epoch in range(progress.epoch, spec.epochs):
        began = time.perf_counter()
        # So that dropout continues the same after a resume, and differs between processes.
        torch.manual_seed((spec.seed * 100_003 + epoch) * fabric.world_size + fabric.global_rank)
        monitor = _EpochMonitor(report, spec, epoch, batches, stop)
        source = first_epoch.observed(monitor(epoch_batches(epoch)), epoch, step, len(data.classes), log)
        terms = _train_epoch(step, source, _rates(spec, epoch, len(batches)), (epoch + 1) / spec.epochs)
        targets = teacher.epoch_scores() if isinstance(teacher, OutOfFoldTeacher) else {}
        model.eval()
        logits, shown = predictions(run, trained, data.val, fabric, store.paths, log, of_validation)
        progress.seconds += time.perf_counter() - began
        progress.epoch = epoch + 1
        if tracked is not None:  # the main process
            scores = classification.summarise(logits, data.val.labels)
            _save_epoch(run, model, method, optimizer, fabric.strategy.precision, progress, scores)
            tracked_images.record_maps(run, epoch, model, tracked, fabric.device)
            mask_area = {"mask_area": shown.area} if shown else {}
            log("epoch", epoch=epoch, terms=terms, loss=sum(terms.values()), **_validation(scores), **mask_area,
                **targets, images_per_second=monitor.speed, threads=[threads], seconds=progress.seconds)
        fabric.barrier()

    log_usage([one for one in (features, teacher) if one], batches, log)
    report("testing")
    weights.load(model, run.weights)
    logits, shown = predictions(run, model.eval(), data.test, fabric, store.paths, log)
    return _write_summary(run, data, images, model, progress, logits, shown, fabric) if is_main else {}


def _validation(scores: dict[str, Any]) -> dict[str, float]:
    return {f"val_{name}": scores[name] for name in ("loss", "accuracy", "macro_f1")}


def _fabric(spec: RunSpec) -> Fabric:
    """Device, precision and processes; settings given to `fabric run` take precedence."""
    precision: Any = resolve_precision(spec)
    try:
        fabric = Fabric(**distributed.fabric_choice({"accelerator": spec.device, "precision": precision}))
    except (RuntimeError, ValueError, lightning_fabric.utilities.exceptions.MisconfigurationException) as error:
        raise UsageError(f"device={spec.device} with precision={precision} cannot be had on this machine "
                         f"({error}). Try device=auto and precision=32-true.") from error
    if not distributed.through_fabric():  # `fabric run` has launched the processes already
        fabric.launch()
    return fabric


def _precision(fabric: Fabric) -> str:
    """Precision in use, as the launcher or the spec chose it: 32-true, bf16-mixed or 16-mixed."""
    return str(fabric.strategy.precision.precision)


def _open(run: Run, store: Store) -> tuple[Dataset, TrainingImages]:
    """The data set, and what is trained on. Raises UsageError where either has changed since the run was planned."""
    spec = run.spec

    def report(phase: str, done: float) -> None:  # by the process that decodes; the others wait at a lock
        run.write_progress(phase, share=done)

    require_same_weights(spec)
    data = open_dataset(spec.data, spec.image_size, store.paths, report, spec.data_fingerprint)
    if spec.data_fingerprint and spec.data_fingerprint != data.fingerprint:
        raise UsageError(f"The data set {spec.data} has changed since this run was planned. Start a new run, or put "
                         "the old content back.")
    return data, training_images(spec, data, store.paths, report)


def require_same_weights(spec: RunSpec) -> None:
    """Raise UsageError where the weights file that the run starts from has changed since it was planned."""
    path = Path(spec.pretrained)
    if spec.pretrained_fingerprint and path.is_file() and weights.fingerprint(path) != spec.pretrained_fingerprint:
        raise UsageError(f"The weights file {path} has changed since this run was planned. Start a new run, or put the "
                         "old file back.")


def _optimizer(spec: RunSpec, model: Classifier, method: Method, classes: int) -> torch.optim.Optimizer:
    """AdamW over the trained parameters of model and method."""
    slow = backbone_parameters(model, spec, classes)
    groups = decay_groups(nn.ModuleList([model, method]), spec.weight_decay, slow, spec.backbone_rate)
    return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=True)


def _batches(spec: RunSpec, images: TrainingImages, flip: bool, fabric: Fabric) -> TrainBatches:
    """Training batches of this process. Raises UsageError where the processes' shares of a batch would differ in size,
    because the gradient would then differ from that of one process."""
    if spec.batch_size % (world := fabric.world_size):
        raise UsageError(f"A batch of {spec.batch_size} cannot be shared equally by {world} processes. Take a multiple "
                         f"of {world}.")
    return TrainBatches(images.split, images.labelled, spec.batch_size, spec.seed, spec.views, flip, spec.augmentation,
                        fabric.global_rank, fabric.world_size, images.unlabelled, spec.mixup,
                        spec.label_smoothing)


def learning_rate(step: int, steps: int, peak: float, schedule: str) -> float:
    """Learning rate at one step. One-cycle rises over the first fifth from a tenth of the peak; both schedules anneal
    by a half cosine."""
    done = (step + 0.5) / steps
    rise = 0.2 if schedule == "one-cycle" else 0.0
    if done < rise:
        return peak * (0.1 + 0.9 * done / rise)
    return peak * 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


def _rates(spec: RunSpec, epoch: int, steps: int) -> Iterator[float]:
    return (learning_rate(epoch * steps + step, spec.epochs * steps, spec.learning_rate, spec.schedule)
            for step in range(steps))


class _EpochMonitor:
    """Batches of an epoch with a check whether to stop, the speed in images/s, and a report about once a second."""

    def __init__(self, report: Callable[..., None], spec: RunSpec, epoch: int, batches: TrainBatches,
                 should_stop: Callable[[], bool]) -> None:
        self.reporter = ProgressReporter(report)  # a new one, so that each epoch is reported as it begins
        self.should_stop, self.clock = should_stop, batches.clock
        self.epochs, self.epoch, self.steps, self.batch = spec.epochs, epoch, len(batches), batches.batch_size
        self.speed = 0.0

    def __call__(self, batches: Iterator[tuple[Batch, TeacherOutputs]]) -> Iterator[tuple[Batch, TeacherOutputs]]:
        began = time.perf_counter()
        self._report(0)
        for step, batch in enumerate(batches):
            if self.should_stop():
                raise Stopped
            with self.clock("steps"):
                yield batch
            self.speed = (step + 1) * self.batch / (time.perf_counter() - began)
            self._report(step + 1)

    def _report(self, step: int) -> None:
        left = self.steps * (self.epochs - self.epoch) - step
        self.reporter("training", epoch=self.epoch, epochs=self.epochs, step=step, steps=self.steps,
                      images_per_second=self.speed,
                      seconds_left=left * self.batch / self.speed if self.speed else None)


def _train_epoch(step: TrainStep, batches: Iterator[tuple[Batch, TeacherOutputs]], rates: Iterator[float],
                 progress: float) -> dict[str, float]:
    """One pass over the training images; returns the mean of each loss term over all processes."""
    step.model.train()
    step.method.train()
    sums: dict[str, torch.Tensor] = {}
    steps = 0
    for (batch, outputs), rate in zip(batches, rates, strict=True):
        for group in step.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        for name, value in step(batch, outputs, progress).items():
            sums[name] = sums.get(name, 0.0) + value
        steps += 1
    shared: Any = step.fabric.all_reduce(torch.stack(list(sums.values())) / steps, reduce_op="mean")
    means = dict(zip(sums, shared.tolist(), strict=True))
    with distributed.raise_together(step.fabric):
        if not all(map(math.isfinite, means.values())):
            raise UsageError(_diverged(means, _precision(step.fabric)))
    return means


def _diverged(terms: dict[str, float], precision: str) -> str:
    if precision == "16-mixed":
        return (f"The loss became {terms}: numbers beyond the range of 16-bit floats, or a training that diverged. "
                "Take precision=bf16-mixed, or lower the learning rate.")
    return f"The loss became {terms}: training diverged. Lower the learning rate."


def _save_epoch(run: Run, model: Classifier, method: Method, optimizer: torch.optim.Optimizer,
                precision: lightning_fabric.plugins.Precision, progress: TrainState, scores: dict[str, Any]) -> None:
    """Save the best weights, then the state: a kill between the two repeats the epoch and writes the same weights.

    During the method's warm-up the best weights so far are saved too, so that the run can be inspected; after it the
    best score starts anew.
    """
    if progress.epoch == math.ceil(method.warmup_fraction * run.spec.epochs):
        progress.best_score = TrainState().best_score
    score = (scores["macro_f1"], -scores["loss"])
    if score > progress.best_score:
        progress.best_score, progress.best_epoch = score, progress.epoch - 1
        weights.save(model, run.weights)
    checkpoint.save(run, model, method, optimizer, precision, progress)


def _write_summary(run: Run, data: Dataset, images: TrainingImages, model: Classifier, progress: TrainState,
                   logits: np.ndarray, shown: mask_statistics.MaskStatistics | None, fabric: Fabric) -> dict[str, Any]:
    """Record the test scores and write the summary, which makes the run a finished one."""
    scores = predict.record(run, logits, data.test)
    mask = _mask_entry(shown, model, data.test, fabric.device) if isinstance(model, MaskedStudent) and shown else {}
    price = cost.cost(run.spec, len(data.classes))
    summary = {"classes": list(data.classes), "data": data.describe(),
               "images": images.counts, "accuracy": scores["accuracy"],
               "macro_f1": scores["macro_f1"], "best_epoch": progress.best_epoch,
               "val_macro_f1": progress.best_score[0], "val_loss": -progress.best_score[1],
               "parameters": price.parameters, "flops": price.flops, "seconds": progress.seconds,
               "precision": _precision(fabric), "threads": _threads(run), "versions": versions(),
               **first_epoch.recorded(run), **({"mask": mask} if mask else {}), **summary_entry(run)}
    write_json(run.path / "summary.json", summary)
    for warning in run_warnings(run):
        run.log("warning", **asdict(warning))
    run.resume_state.unlink(missing_ok=True)
    return summary


def _mask_entry(shown: mask_statistics.MaskStatistics, model: MaskedStudent, test: Split,
                device: torch.device) -> dict[str, Any]:
    """Summary of the masks, and of what the student makes of the fill alone."""
    found = classification.summarise(predict.predict_fill(model, test, device), test.labels)["accuracy"]
    majority = float(np.bincount(test.labels).max() / len(test))
    return {**shown.to_json(), "fill_only": found, "majority": majority,
            "leak": mask_statistics.leak(found, majority)}


def _recorded_threads(run: Run) -> int:
    """Number of threads of the saved part of an unfinished run; 0 where nothing is saved or recorded."""
    started = run.last_event("started") if run.resume_state.exists() else None
    return int((started or {}).get("threads", 0))


def _threads(run: Run) -> list[int]:
    """Numbers of threads that the run's epochs were computed on. With several, as after a resume on a machine with
    fewer cores, a repetition may differ in the last bits of its weights."""
    return sorted({number for epoch in run.epochs() for number in epoch.get("threads", [])})


def versions() -> dict[str, str]:
    """Versions of the packages that compute a run, and the machine's architecture."""
    import timm

    return {"kd-lens": VERSION, "python": platform.python_version(), "torch": torch.__version__,
            "timm": timm.__version__, "machine": platform.machine()}
