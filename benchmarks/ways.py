"""Ways to distil, from a plain one to ours, for `benchmarks.distill`: each takes the same step of the same method."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from kd.datasets import fingerprint, open_dataset
from kd.datasets.base import Dataset
from kd.datasets.phantoms import draw_set, parse_reference
from kd.evaluation import predict
from kd.methods import TeacherOutputs
from kd.methods import build as build_method
from kd.models import build, weights
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.runs import Run, Store
from kd.torch_utils import compute
from kd.training import augmentation, loop
from kd.training.batches import Batch, TrainBatches
from kd.training.step import TrainStep, decay_groups
from kd.training.teacher.cached_teacher import CachedTeacher
from kd.training.training_images import training_images

ORIGINAL, DRAWN = 256, 96  # side of the JPEG files in pixels, and of the phantoms that they enlarge
VIEWS = 2  # few, so that all are soon cached; a step takes as long whichever view it shows
CPU = torch.device("cpu")
PICTURES, LAYOUT, BF16, CACHED = ("+ mapped pictures, views as tensors", "+ channels_last", "+ bfloat16",
                                "+ teacher outputs cached")
DATA, OUTPUTS, OPTIMISER, STUDENT = "data", "teacher outputs", "optimiser", "student forward and backward"


class Files(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """JPEG files as most training scripts read them: decoded each time, augmented by torchvision, [3, S, S] in 0..1."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], prepare: Callable[[Image.Image], Tensor]) -> None:
        self.paths, self.labels, self.prepare = paths, labels, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[number]) as image:
            return self.prepare(image.convert("RGB")), int(self.labels[number])


def augmenting(size: int, flip: bool, strength: float) -> Callable[[Image.Image], Tensor]:
    """torchvision's transforms of the same kind and strength as `kd.training.augmentation`."""
    return transforms.Compose([
        transforms.RandomResizedCrop(size, (1 - strength * augmentation.CROPPED, 1.0), (1.0, 1.0)),
        transforms.RandomRotation(strength * augmentation.ROTATION * 180 / torch.pi),
        *([transforms.RandomHorizontalFlip()] if flip else []),
        transforms.ColorJitter(brightness=strength * augmentation.SHADE), transforms.ToTensor()])


def as_it_is(size: int) -> Callable[[Image.Image], Tensor]:
    """An image of the working size, not augmented."""
    return transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])


def decoding(data: Dataset, part: str, root: Path, prepare: Callable[[Image.Image], Tensor]) -> Files:
    """The files of one part of a data set made of class folders below `root`."""
    split = data.splits[part]
    return Files([root / name for name in split.names], split.labels.tolist(), prepare)


def draw_files(root: Path, count: int) -> Path:
    """Phantoms as class folders of JPEG files of the size of usual originals; returns their folder."""
    name, options = parse_reference(f"phantom-brain:count={count}")
    for drawn in draw_set(name, options, DRAWN):
        path = root / "drawn" / drawn.split / drawn.name.partition("-")[0] / f"{drawn.name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.image).resize((ORIGINAL, ORIGINAL), Image.Resampling.BICUBIC).save(path, quality=90)
    return root / "drawn"


class Scene:
    """A store of its own below `root` with drawn files in it, and teachers that count as trained."""

    def __init__(self, root: Path, count: int) -> None:
        self.store = Store(Paths(root))
        self.files = draw_files(root, count)
        self.digest = fingerprint(str(self.files), self.store.paths)

    def spec(self, **settings: Any) -> RunSpec:
        """Of a run on the drawn files."""
        return RunSpec(data=str(self.files), data_fingerprint=self.digest, **settings)

    def data(self, size: int) -> Dataset:
        """The drawn files at one size, decoded once."""
        return open_dataset(str(self.files), size, self.store.paths)

    def teacher(self, name: str, size: int) -> Run:
        """A run with random weights: an answer takes as long whatever it is."""
        run = self.store.create(self.spec(model=name, image_size=size))
        if not run.summary:
            classes = self.data(size).classes
            weights.save(build(run.spec, len(classes)), run.weights)
            write_json(run.path / "summary.json", {
                "classes": list(classes), "best_epoch": None, "parameters": 1, "flops": 1,
                **dict.fromkeys(("accuracy", "macro_f1", "val_macro_f1", "seconds"), 0.0)})
        return run


@dataclass(frozen=True)
class Pair:
    """Pair of teacher (a timm model) and student (plain of depth 5), at an image size."""

    teacher: str
    width: int
    size: int
    batch: int

    def spec(self, scene: Scene, precision: str) -> RunSpec:
        """The student's run."""
        return scene.spec(image_size=self.size, width=self.width, batch_size=self.batch, method="kd", views=VIEWS,
                          teacher=scene.teacher(self.teacher, self.size).id, precision=precision, device="cpu")

    def __str__(self) -> str:
        model = build(RunSpec(width=self.width, image_size=self.size), 4)
        channels = [stage.channels for stage in model.stages]
        return (f"{self.teacher} → plain of {len(channels)} layers ({channels[0]}…{channels[-1]} channels), "
                f"{self.size} px, batches of {self.batch}")


class LiveTeacher:
    """A teacher as in most training scripts: a forward pass for every batch, nothing cached."""

    def __init__(self, run: Run, classes: int) -> None:
        self.model = predict.load(run, classes).requires_grad_(False)

    @torch.no_grad()
    def batches(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, TeacherOutputs]]:
        """These batches, each with the teacher's logits."""
        for batch in batches:
            yield batch, {"logits": self.model(batch.images).logits}


class Way(NamedTuple):
    """A way to train, batch by batch. lead: steps until its speed is steady. source: of our batches."""

    train_step: TrainStep
    batches: Iterator[tuple[Batch, TeacherOutputs]]
    lead: int = 1
    source: TrainBatches | None = None
    teacher: CachedTeacher | None = None

    def step(self) -> object:
        """Train on one more batch."""
        return self.train_step(*next(self.batches), 1.0)


def ladder(pair: Pair, scene: Scene, workers: Sequence[int]) -> dict[str, Way]:
    """From the plain way to ours, one thing at a time; the plain ways come first."""
    data = scene.data(pair.size)
    exact = pair.spec(scene, "32-true")
    fastest = replace(exact, precision=compute.precision("auto", "cpu"))
    found = {named(count): plain(exact, scene.store, data, scene.files, count) for count in workers}
    found[PICTURES] = _mapped(exact, scene.store, data)
    found[LAYOUT] = _ours(exact, scene.store, data)
    if fastest.precision != exact.precision:
        found[BF16] = _ours(fastest, scene.store, data)
    found[CACHED] = _ours(fastest, scene.store, data, cached=True)
    return found


def named(workers: int) -> str:
    """The plain way with so many."""
    return f"plain, {workers} worker process{'' if workers == 1 else 'es'}"


def plain(spec: RunSpec, store: Store, data: Dataset, folder: Path, workers: int) -> Way:
    """Files decoded for every batch, the teacher asked for every batch, everything in float32 and NCHW."""
    files = decoding(data, "train", folder, augmenting(spec.image_size, data.info.flip, spec.augmentation))
    # One epoch without an end, so that nothing waits for worker processes to begin again.
    loader = DataLoader(files, spec.batch_size, sampler=RandomSampler(files, True, 10**9), num_workers=workers)
    number = np.zeros(spec.batch_size, np.int64)
    batches = (Batch(images, target, number, number) for images, target in loader)
    # Worker processes have two batches each in store after a pause: their speed shows once these are used up.
    step, teacher = as_scripts_do(spec, store, data)
    return Way(step, teacher.batches(batches), 1 + 2 * workers)


def as_scripts_do(spec: RunSpec, store: Store, data: Dataset, fused: bool = False) -> tuple[TrainStep, LiveTeacher]:
    """A step in the usual memory layout, with AdamW as torch chooses it, and a teacher without a cache."""
    fabric, model = loop._fabric(spec), build(spec, len(data.classes))
    method = build_method(spec.method, spec.method_args)
    optimizer = torch.optim.AdamW(decay_groups(model, spec.weight_decay), spec.learning_rate, fused=fused)
    wrapped, optimizer = fabric.setup(model.train(), optimizer)
    return (TrainStep(fabric, wrapped, method, optimizer),
            LiveTeacher(store[spec.teacher], len(data.classes)))


def _mapped(spec: RunSpec, store: Store, data: Dataset) -> Way:
    """Our batches and optimiser; everything else is plain."""
    step, teacher = as_scripts_do(spec, store, data, fused=True)
    source = loop._batches(spec, training_images(spec, data, store.paths), data.info.flip, step.fabric)
    batches = (batch for epoch in itertools.count() for batch in source.epoch(epoch, CPU))
    plain_layout = (replace(batch, pixels=batch.images.contiguous()) for batch in batches)
    return Way(step, teacher.batches(plain_layout), source=source)


def _ours(spec: RunSpec, store: Store, data: Dataset, cached: bool = False) -> Way:
    """As `kd.training.loop` does it; with `cached` all teacher outputs are in the cache."""
    fabric = loop._fabric(spec)
    model = build(spec, len(data.classes)).to(memory_format=torch.channels_last)
    method = build_method(spec.method, spec.method_args)
    source = loop._batches(spec, training_images(spec, data, store.paths), data.info.flip, fabric)
    teacher = CachedTeacher(store[spec.teacher], spec, data, method, fabric)
    if cached:
        teacher.enable_cache(store, store.create(spec), source.shown(spec.epochs))
        for epoch in range(VIEWS):
            deque(teacher.batches(source, epoch), 0)
    optimizer = torch.optim.AdamW(decay_groups(model, spec.weight_decay), spec.learning_rate, fused=True)
    wrapped, optimizer = fabric.setup(model.train(), optimizer)
    batches = (batch for epoch in itertools.count() for batch in teacher.batches(source, epoch))
    return Way(TrainStep(fabric, wrapped, method, optimizer), batches, source=source, teacher=teacher)


def shares(way: Way, steps: int, clock: Callable[[], float]) -> dict[str, float]:
    """Shares of our step's time by part."""
    spent = dict.fromkeys((DATA, OUTPUTS, OPTIMISER), 0.0)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **keywords: Any) -> Any:
            began = clock()
            result = call(*args, **keywords)
            spent[name] += clock() - began
            return result
        return wrapped

    assert way.source is not None
    optimizer = way.train_step.optimizer
    timed_optimizer: Any = SimpleNamespace(zero_grad=timed(OPTIMISER, optimizer.zero_grad),
                                           step=timed(OPTIMISER, optimizer.step))
    timed_batches: Any = iter(timed(OUTPUTS, way.batches.__next__), None)
    watched = Way(way.train_step._replace(optimizer=timed_optimizer), timed_batches)
    with mock.patch.object(way.source, "_batch", timed(DATA, way.source._batch)):
        began = clock()
        for _ in range(steps):
            watched.step()
        whole = clock() - began
    spent[OUTPUTS] -= spent[DATA]  # which is fetched while outputs are looked up
    return {**{name: seconds / whole for name, seconds in spent.items()}, STUDENT: 1 - sum(spent.values()) / whole}
