"""Run folders as training writes them, made in an instant, for tests of what reads them."""

import io
from dataclasses import replace

import numpy as np
from safetensors.numpy import save_file

from kd.spec import RunSpec
from kd.store.files import write_bytes, write_json
from kd.store.groups import Replicates
from kd.store.runs import Run, Store

CLASSES = ["glioma", "meningioma", "none", "pituitary"]
COST = {"resnet10t": (4_900_000, 180_000_000), "plain": (98_000, 5_600_000)}


def epochs(run: Run, number: int, terms: tuple[str, ...] = ("hard",)) -> Run:
    """Started, and this many epochs done."""
    run.log("queued")
    run.log("started", device="cpu", threads=1, world=1, versions={})
    for epoch in range(number):
        value = 1.4 * 0.8**epoch
        run.log("epoch", epoch=epoch, terms=dict.fromkeys(terms, value / len(terms)), loss=value, val_loss=value * 1.1,
                val_accuracy=1 - value / 2, val_macro_f1=0.98 - value / 2, images_per_second=210.0, seconds=4.0 * epoch)
    return run


def finish(run: Run, wrong: int, images: int = 120) -> Run:
    """Tested: the first `wrong` of the test images got the next class."""
    labels = np.arange(images) % len(CLASSES)
    logits = 5 * np.eye(len(CLASSES), dtype=np.float32)[(labels + (np.arange(images) < wrong)) % len(CLASSES)]
    buffer = io.BytesIO()
    np.savez(buffer, logits=logits, labels=labels, names=np.array([f"image-{number:04d}" for number in range(images)]))
    write_bytes(run.path / "predictions.npz", buffer.getvalue())
    score = 1 - wrong / images
    write_json(run.path / "evaluation.json", {"images": images, "accuracy": score, "macro_f1": score, "loss": 0.2,
                                              "recall": [score] * 4, "confusion": np.eye(4, dtype=int).tolist()})
    parameters, flops = COST.get(run.spec.model, COST["resnet10t"])
    return summarise(run, accuracy=score, macro_f1=score, val_macro_f1=score, parameters=parameters, flops=flops)


def summarise(run: Run, **values: object) -> Run:
    """A summary with some values of its own, and weights where there are none: the run is finished."""
    if not run.weights.exists():
        save_file({"weight": np.zeros(250, np.float32)}, run.weights)
    write_json(run.path / "summary.json", {
        "classes": CLASSES, "data": {}, "accuracy": 0.9, "macro_f1": 0.9, "best_epoch": run.spec.epochs - 1,
        "val_macro_f1": 0.9, "val_loss": 0.2, "parameters": 1000, "flops": 2000, "seconds": 75.0, "versions": {},
        **values})
    return run


def trio(store: Store, data: str = "phantom-brain", done: bool = True, seed: int = 0) -> tuple[Run, Run, Run]:
    """Teacher, control and student of one distillation; finished with 6, 18 and 12 of 120 wrong, or just planned."""
    common = {"data": data, "image_size": 64, "epochs": 8, "seed": seed}
    teacher = store.create(RunSpec(model="resnet10t", **common))
    control = store.create(RunSpec(**common))
    student = store.create(RunSpec(method="kd", method_args={"alpha": 0.7, "temperature": 10}, teacher=teacher.id,
                                   **common))
    if done:
        for run, wrong in ((teacher, 6), (control, 18), (student, 12)):
            finish(epochs(run, 8, ("hard", "soft") if run is student else ("hard",)), wrong)
    return teacher, control, student


def series(store: Store, seeds: int = 3, done: int = 3) -> Replicates:
    """A distillation repeated with so many seeds, the first `done` of them finished; students err on 12, 16, 20 of 120,
    controls on 18, 20, 22."""
    teacher, control, student = trio(store, done=False)
    pairs = [(store.create(replace(control.spec, seed=seed)), store.create(replace(student.spec, seed=seed)))
             for seed in range(seeds)]
    if done:
        finish(epochs(teacher, 8), 6)
    for seed, (first, second) in enumerate(pairs[:done]):
        finish(epochs(first, 8), 18 + 2 * seed)
        finish(epochs(second, 8, ("hard", "soft")), 12 + 4 * seed)
    return Replicates(teacher, tuple(pairs))
