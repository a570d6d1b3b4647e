"""Time to a finished distillation, for `benchmarks.distill --finish`: ours, and as plain scripts do it."""

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.ways import Files, as_it_is, as_scripts_do, augmenting, decoding, named
from kd.datasets import fingerprint, open_dataset, resolve
from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.metrics import classification
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.training import loop
from kd.training.batches import Batch
from kd.training.teacher.cache import DIRECTORY, STALE


def compare(reference: str, teacher_run: str, epochs: int, batch: int, workers: Sequence[int], threads: int = 0) -> str:
    """Table of seconds and test accuracies. Nothing is decoded or cached before the first run, and nothing remains.

    Raises UsageError when the set is no folder, or the teacher is unknown or not of this set.
    """
    home = Store()
    folder, teacher = Path(resolve(reference, home.paths)), home[teacher_run]
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of class folders, whose files the plain way could read.")
    with tempfile.TemporaryDirectory() as root:
        store = Store(Paths(Path(root)))
        shutil.copytree(teacher.path, store.path / teacher.id,
                        ignore=shutil.ignore_patterns(DIRECTORY, STALE, "tasks", ".*"))
        spec = RunSpec(data=str(folder), data_fingerprint=fingerprint(str(folder), store.paths), method="kd",
                       image_size=teacher.spec.image_size, teacher=teacher.id, epochs=epochs, batch_size=batch,
                       threads=threads, device="cpu")
        rows = [("ours, first of this teacher", *timed(partial(ours, spec, store))),
                ("ours, second of this teacher", *timed(partial(ours, replace(spec, seed=1), store)))]
        data = open_dataset(str(folder), spec.image_size, store.paths)
        exact = replace(spec, precision="32-true")
        rows += [(named(count), *timed(partial(plain, exact, store, data, folder, count))) for count in workers]
    return table(f"{teacher.spec.model_label} → {spec.model_label} on {folder.name}: {len(data.train)} images of "
                 f"{spec.image_size} px, {epochs} epochs, batches of {batch}", rows)


def timed(learn: Callable[[], float]) -> tuple[float, float]:
    """Wall-clock seconds of a call, and its result."""
    began = time.perf_counter()
    score = learn()
    return time.perf_counter() - began, score


def ours(spec: RunSpec, store: Store) -> float:
    """Distil by `kd.training.loop`; returns the accuracy on test."""
    return float(loop.train(store.create(spec), store)["accuracy"])


def plain(spec: RunSpec, store: Store, data: Dataset, folder: Path, workers: int) -> float:
    """Distil as plain scripts do, with the same model, loss, schedule and choice of the best epoch on validation."""
    files = decoding(data, "train", folder, augmenting(spec.image_size, data.info.flip, spec.augmentation))
    step, teacher = as_scripts_do(spec, store, data)
    loader = DataLoader(files, spec.batch_size, shuffle=True, drop_last=True, num_workers=workers,
                        persistent_workers=workers > 0)
    number = np.zeros(spec.batch_size, np.int64)
    best, state = -1.0, {}
    for epoch in range(spec.epochs):
        batches = (Batch(images, target, number, number) for images, target in loader)
        loop._train_epoch(step, teacher.batches(batches), loop._rates(spec, epoch, len(loader)),
                          (epoch + 1) / spec.epochs)
        score = accuracy(step.model, decoding(data, "val", folder, as_it_is(spec.image_size)))
        if score > best:
            best, state = score, copy.deepcopy(step.model.state_dict())
    step.model.load_state_dict(state)
    return accuracy(step.model, decoding(data, "test", folder, as_it_is(spec.image_size)))


@torch.inference_mode()
def accuracy(model: torch.nn.Module, files: Files) -> float:
    """Accuracy of a model on files."""
    model.eval()
    logits = torch.cat([model(images).logits for images, _ in DataLoader(files, 64)]).numpy()
    return float(classification.summarise(logits, np.array(files.labels))["accuracy"])


def table(title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """Table with speeds relative to the fastest plain way."""
    fastest = min(seconds for name, seconds, _ in rows if name.startswith("plain"))
    lines = [title, f"{'':<36}{'seconds':>10}{'× plain':>10}{'test accuracy':>16}"]
    return "\n".join([*lines, *(f"{name:<36}{seconds:>10.1f}{fastest / seconds:>10.2f}{score:>16.3f}"
                                for name, seconds, score in rows)])
