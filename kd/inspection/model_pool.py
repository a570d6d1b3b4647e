"""Pool of trained models for inspection: loaded once, frozen, shared by all threads."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.tensors import to_tensor
from kd.errors import SHOWN, UsageError, unknown
from kd.evaluation import predict
from kd.metrics import classification
from kd.models.base import Classifier
from kd.store.eight_bit import EightBit
from kd.store.runs import FINISHED, Run

POOL_BYTES = 1 << 30


class ModelPool:
    """Pool of frozen models of runs in eval mode, for any number of threads; never the one that is being trained.

    Each is loaded once, also when several threads request it at the same time, and again when the run's weights change.
    The least recently used are dropped when all together exceed `limit` bytes; the newest always stays.
    """

    def __init__(self, limit: int = POOL_BYTES, device: torch.device | str = "cpu") -> None:
        self.limit, self.device = limit, device
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[Any, ...], Future[Classifier]] = OrderedDict()

    def __call__(self, run: Run, classes: int) -> Classifier:
        """The run's model. Raises UsageError when it has no weights or they do not fit its spec."""
        key = (run.path, *_stamp(run))
        with self._lock:
            entry = self._entries.get(key)
            load_here = entry is None
            if entry is None:
                entry = self._entries[key] = Future()
            self._entries.move_to_end(key)
        if load_here:
            self._load(key, entry, run, classes)
        return entry.result()

    def __len__(self) -> int:
        return len(self._entries)

    def _load(self, key: tuple[Any, ...], entry: "Future[Classifier]", run: Run, classes: int) -> None:
        try:
            model = predict.load(run, classes).requires_grad_(False).to(self.device)
        except BaseException as error:
            with self._lock:
                self._entries.pop(key, None)
            entry.set_exception(error)
            return
        entry.set_result(model)
        with self._lock:
            self._evict(key)

    def _evict(self, newest: tuple[Any, ...]) -> None:
        for key in [key for key in self._entries if key[0] == newest[0] and key != newest]:
            del self._entries[key]  # the same run's older weights
        sizes = {key: _bytes(entry.result()) for key, entry in self._entries.items() if entry.done()}
        for key in list(sizes):
            if sum(sizes.values()) <= self.limit:
                return
            if key != newest:
                del self._entries[key], sizes[key]


@lru_cache
def shared_pool() -> ModelPool:
    """The pool of this process."""
    return ModelPool()


def _stamp(run: Run) -> tuple[int, int]:
    try:
        state = run.weights.stat()
    except FileNotFoundError:
        raise UsageError(f"{run.id} has no weights yet (it is {run.status}). Wait for its first epoch, or resume it."
                         ) from None
    return state.st_mtime_ns, state.st_size


def _bytes(model: Classifier) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


@dataclass(frozen=True)
class LoadedModel:
    """A run with its model and classes, and a note where it is not finished."""

    run: Run
    model: Classifier
    classes: tuple[str, ...]
    note: str = ""

    def class_number(self, target: int | str) -> int:
        """Number of a class given by name or number. Raises UsageError when there is none."""
        return class_number(target, self.classes)

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Class probabilities [K] for an image [S, S, 3]."""
        with torch.no_grad():
            logits = self.model(to_tensor(image[None], self.model.mean.device)).logits
        return classification.softmax(logits[0].float().cpu().numpy())


def class_number(target: object, classes: Sequence[str]) -> int:
    """Number of a class given by name or number. Raises UsageError when there is none."""
    if isinstance(target, str):
        if target not in classes:
            raise unknown("class", target, classes)
        return classes.index(target)
    if not isinstance(target, Integral):
        raise UsageError(f"A class is given by its name or its number, not by {target!r}.")
    if not 0 <= (number := int(target)) < len(classes):
        names = ", ".join(classes[:SHOWN]) + (", …" if len(classes) > SHOWN else "")
        raise UsageError(f"There is no class {target}: this model has {len(classes)}, numbered from 0 ({names}).")
    return number


def load_model(run: Run, pool: ModelPool | None = None) -> LoadedModel:
    """A run with its model from the pool. Raises UsageError when it has no weights yet.

    A run that was cancelled, interrupted or still trains has its best weights so far, as `note` states. It also states
    what an 8-bit form is.
    """
    status = run.status
    _stamp(run)
    classes = _classes(run)
    note = "" if status == FINISHED else f"{run.id} is {status}, not finished: these are its best weights so far."
    if isinstance(run, EightBit):
        note = _note(run)
    return LoadedModel(run, (shared_pool() if pool is None else pool)(run, len(classes)), classes, note)


def _note(form: EightBit) -> str:
    mask = " Its mask network is inside of the file; its mask is not shown." if form.source.spec.mask_net_depth else ""
    return (f"{form.label}: weights and activations are 8-bit integers, computed by onnxruntime. FLOPs are counted as "
            f"float32's.{mask}")


def _classes(run: Run) -> tuple[str, ...]:
    for source in (run.summary or {}, *reversed(run.events())):
        if "classes" in source:
            return tuple(source["classes"])
    raise UsageError(f"{run.id} is {run.status} and does not say which classes it learns. Resume it.")
