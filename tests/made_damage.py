"""A store with one good distillation and, as further seeds of it, a student for every kind of damage."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fabricate import epochs, finish
from made_runs import CONTROL, TEACHER, student_spec

from kd.models import build_untrained, weights
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.groups import Distillation
from kd.store.runs import Run, Store

NOISE = np.random.default_rng(0).bytes(600)
JSON_FILES = ("spec.json", "summary.json", "evaluation.json")
Harm = Callable[[Run], None]


def changed(name: str, **values: Any) -> Harm:
    """A JSON file with some values changed; None removes nothing, `...` removes the key."""
    def harm(run: Run) -> None:
        path = run.path / name
        found = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))

    return harm


def holding(name: str, content: bytes | str) -> Harm:
    """A file with another content."""
    def harm(run: Run) -> None:
        (run.path / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return harm


def cut(name: str, share: float = 0.5) -> Harm:
    """The beginning of a file."""
    def harm(run: Run) -> None:
        whole = (run.path / name).read_bytes()
        (run.path / name).write_bytes(whole[:int(len(whole) * share)])

    return harm


def without(name: str) -> Harm:
    def harm(run: Run) -> None:
        (run.path / name).unlink()

    return harm


def folder(name: str) -> Harm:
    """A folder in the place of a file."""
    def harm(run: Run) -> None:
        (run.path / name).unlink()
        (run.path / name).mkdir()

    return harm


def line(text: str) -> Harm:
    """One more line of the event log."""
    def harm(run: Run) -> None:
        with (run.path / "events.jsonl").open("a") as file:
            file.write(text + "\n")

    return harm


def arrays(**values: Any) -> Harm:
    """Test predictions with some arrays changed; `...` removes one."""
    def harm(run: Run) -> None:
        path = run.path / "predictions.npz"
        with np.load(path) as stored:
            found = {**stored, **values}
        np.savez(path, **{name: value for name, value in found.items() if value is not ...})

    return harm


HARMS: dict[str, Harm] = {
    **{f"{name} {kind}": holding(name, content) for name in JSON_FILES for kind, content in (
        ("empty", ""), ("of another type", "[1, 2]"), ("null", "null"), ("a number", "7"), ("noise", NOISE),
        ("deep", "[" * 100_000), ("two values", "{} {}"), ("zeros", bytes(300)), ("a long number", "9" * 5000))},
    **{f"{name} cut": cut(name) for name in (*JSON_FILES, "events.jsonl", "predictions.npz", "weights.safetensors")},
    **{f"{name} a folder": folder(name) for name in (*JSON_FILES, "events.jsonl", "predictions.npz")},
    "spec.json missing": without("spec.json"),
    "method_args a list": changed("spec.json", method_args=[1]),
    "method_args null": changed("spec.json", method_args=None),
    "method_args text": changed("spec.json", method_args="alpha"),
    "method_args of odd values": changed("spec.json", method_args={"alpha": [1], "temperature": None}),
    "spec format text": changed("spec.json", format="two"),
    "spec of a newer version": changed("spec.json", shape_of_things=1),
    "spec seed null": changed("spec.json", seed=None),
    "spec data a list": changed("spec.json", data=["a"]),
    "spec model a number": changed("spec.json", model=3),
    "spec method a list": changed("spec.json", method=["kd"]),
    "spec teacher null": changed("spec.json", teacher=None),
    "seconds null": changed("summary.json", seconds=None),
    "seconds text": changed("summary.json", seconds="long"),
    "accuracy null": changed("summary.json", accuracy=None),
    "accuracy missing": changed("summary.json", accuracy=...),
    "classes null": changed("summary.json", classes=None),
    "classes numbers": changed("summary.json", classes=[1, 2, 3, 4]),
    "classes missing": changed("summary.json", classes=...),
    "data null": changed("summary.json", data=None),
    "data a list": changed("summary.json", data=[1]),
    "flops zero": changed("summary.json", flops=0),
    "flops null": changed("summary.json", flops=None),
    "parameters text": changed("summary.json", parameters="many"),
    "best epoch text": changed("summary.json", best_epoch="last"),
    "mask a number": changed("summary.json", mask=3),
    "images a list": changed("summary.json", images=[3]),
    "threads null in list": changed("summary.json", threads=[None]),
    "start_loss a list": changed("summary.json", start_loss=[1]),
    "targets odd": changed("summary.json", targets={"entropy": None}),
    "initial weights odd": changed("summary.json", initial_weights={"notes": 3}),
    "nan": holding("summary.json", '{"accuracy": NaN, "classes": ["a"], "seconds": Infinity}'),
    "summary an empty object": holding("summary.json", "{}"),
    "loss null": changed("evaluation.json", loss=None),
    "images text": changed("evaluation.json", images="all"),
    "recall null": changed("evaluation.json", recall=None),
    "ece text": changed("evaluation.json", ece="low"),
    "events empty": holding("events.jsonl", ""),
    "events missing": without("events.jsonl"),
    "events noise": holding("events.jsonl", NOISE),
    "epoch without number": line('{"event": "epoch", "time": 1.0}'),
    "epoch of text": line('{"event": "epoch", "time": 1.0, "epoch": "two", "loss": 1}'),
    "epoch null": line('{"event": "epoch", "time": null, "epoch": null}'),
    "epoch with odd terms": line('{"event": "epoch", "time": 1.0, "epoch": 9, "terms": [1], "loss": 1, "val_loss": 1,'
                                 ' "val_accuracy": 1, "val_macro_f1": 1}'),
    "event a list": line('{"event": ["epoch"], "time": 1.0}'),
    "event an object": line('{"event": {"a": 1}}'),
    "event without time": line('{"event": "failed"}'),
    "event reason a number": line('{"event": "failed", "time": 1.0, "reason": 3}'),
    "event engine without part": line('{"event": "engine", "time": 1.0}'),
    "event data odd": line('{"event": "data", "time": 1.0, "flip": [1], "classes": 3}'),
    "event deep": line('{"event": "note", "x": ' + "[" * 50_000),
    "event started odd": line('{"event": "started", "time": 1.0, "threads": "many"}'),
    "predictions empty": holding("predictions.npz", b""),
    "predictions missing": without("predictions.npz"),
    "predictions noise": holding("predictions.npz", NOISE),
    "predictions without labels": arrays(labels=...),
    "predictions without names": arrays(names=...),
    "predictions of other shape": arrays(logits=np.zeros(7)),
    "predictions of other length": arrays(logits=np.zeros((3, 4), np.float32)),
    "predictions of text": arrays(logits=np.array(["a", "b"])),
    "predictions of objects": arrays(names=np.array([{}, None], dtype=object)),
    "predictions of nan": arrays(logits=np.full((120, 4), np.nan, np.float32)),
    "labels outside": arrays(labels=np.full(120, 77)),
    "labels negative": arrays(labels=np.full(120, -3)),
    "weights empty": holding("weights.safetensors", b""),
    "weights noise": holding("weights.safetensors", NOISE),
    "weights missing": without("weights.safetensors"),
    "progress noise": holding("progress.json", NOISE),
    "progress a list": holding("progress.json", "[1]"),
    "progress odd": holding("progress.json", '{"phase": 3, "epoch": null, "epochs": "a", "steps": 0}'),
}


def good(store: Store) -> Distillation:
    """A finished distillation that every page can open: random weights, made curves and scores."""
    teacher = made(store, TEACHER, 6)
    return Distillation(teacher, made(store, CONTROL, 18), made(store, student_spec(teacher), 12))


def made(store: Store, spec: RunSpec, wrong: int) -> Run:
    """A finished run with weights."""
    run = finish(epochs(store.create(replace(spec, epochs=4)), 4), wrong)
    weights.save(build_untrained(run.spec, 4), run.weights)
    return run


def copied(store: Store, run: Run, seed: int) -> Run:
    """The same run with another seed."""
    spec = replace(run.spec, seed=seed)
    other = Run(store.path / spec.id)
    other.path.mkdir()
    write_json(other.path / "spec.json", spec.to_json())
    for path in run.path.iterdir():
        if path.is_file() and path.name != "spec.json":
            shutil.copy2(path, other.path)
    return other


def damaged(store: Store, start: Run, names: tuple[str, ...] = tuple(HARMS)) -> dict[str, Run]:
    """A copy of a run for each kind of damage, by its name."""
    found = {}
    for number, name in enumerate(names, 1):
        found[name] = copied(store, start, number)
        HARMS[name](found[name])
    return found


def tree(root: Path) -> list[str]:
    return sorted(os.path.relpath(path, root) for path in root.rglob("*"))
