"""What a student's 8-bit form is worth: accuracy, size and time beside float32, and whether it looks at the same place.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.base import Dataset, Split
from kd.evaluation import predict
from kd.export.int8 import batches, outputs
from kd.export.map_agreement import Agreement, agreement, lowest, on_one_grid
from kd.export.program import Program
from kd.metrics.map_similarity import Maps
from kd.models.eight_bit import CLASS_MAPS, LOGITS
from kd.models.onnx_session import OnnxSession
from kd.models.placement import placements
from kd.placement import Placement
from kd.progress import ShareCallback, no_share
from kd.store.files import digest
from kd.store.runs import FINISHED, Run, Store
from kd.timing import Timing, measure_in_turn, summarise

REPEATS, WARMUP = 51, 5  # of the timed forward passes of one image
PAIRS = ("int8_float32", "float32_teacher", "int8_teacher")


@dataclass(frozen=True)
class Arm:
    """A file's test accuracy, its size in bytes, and the time of one image's forward pass with all outputs."""

    accuracy: float
    bytes: int
    timing: Timing


@dataclass(frozen=True)
class Int8Report:
    """An 8-bit file beside the float32 one.

    torch: time of one image by the model itself, measured in turn with the files. threads: of all three. same_class:
    share of the test images on which both predict the same class. maps: agreement of class maps by PAIRS, for the class
    that float32 predicts; None where there are none, or the run has no teacher. weights: digest of the 8-bit file.
    """

    float32: Arm
    int8: Arm
    torch: Timing
    threads: int
    same_class: float
    maps: dict[str, Agreement | None]
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Measured:
    """A report, the 8-bit form's test logits [N, K], and the maps of the images on which it agrees least with float32:
    `index` in the test split, `classes`, `values`, and the maps `float32` and `int8` [n, H, W]; empty without maps."""

    report: Int8Report
    logits: NDArray[np.float32]
    worst: dict[str, NDArray[Any]]


def measure(made: Program, files: tuple[Path, Path], data: Dataset, teacher: "TeacherMaps | None" = None,
            progress: ShareCallback = no_share) -> Measured:
    """Both files (float32, int8) of a program on the test images, and their times. progress: may raise to stop."""
    threads = torch.get_num_threads()
    sessions = [OnnxSession(file, threads) for file in files]
    one, other = (outputs(session, data.test, _part(progress, number)) for number, session in enumerate(sessions))
    timings = _times(made, sessions, next(batches(data.test, np.zeros(1, np.int64))))
    arms = [Arm(float((found[LOGITS].argmax(1) == data.test.labels).mean()), file.stat().st_size, timing)
            for found, file, timing in zip((one, other), files, timings[1:], strict=True)]
    predicted = one[LOGITS].argmax(1)
    maps: dict[str, Agreement | None] = dict.fromkeys(PAIRS)
    worst: dict[str, NDArray[Any]] = {}
    if CLASS_MAPS in one:
        pick = np.arange(len(predicted))
        maps, worst = _maps(one[CLASS_MAPS][pick, predicted], other[CLASS_MAPS][pick, predicted], predicted, data.test,
                            placements(made.model, data.size)[-1], teacher, _part(progress, 2))
    same = float((other[LOGITS].argmax(1) == predicted).mean())
    found = Int8Report(arms[0], arms[1], timings[0], threads, same, maps, digest(files[1]))
    return Measured(found, other[LOGITS], worst)


def _part(progress: ShareCallback, number: int) -> ShareCallback:
    return lambda share: progress((number + share) / 3)


def _times(made: Program, sessions: Sequence[OnnxSession], image: NDArray[np.float32]) -> list[Timing]:
    """Of one image by torch and by each session, measured in turn."""
    def own() -> None:
        with torch.inference_mode():
            made(torch.from_numpy(image))

    calls: list[Callable[[], object]] = [own, *(partial(session, image) for session in sessions)]
    return [summarise(seconds, WARMUP) for seconds in measure_in_turn(calls, REPEATS, warmup=WARMUP)]


def _maps(float32: Maps, int8: Maps, classes: NDArray[np.int64], test: Split, place: Placement | None,
          teacher: "TeacherMaps | None", progress: ShareCallback
          ) -> tuple[dict[str, Agreement | None], dict[str, NDArray[Any]]]:
    """Agreement of maps [N, H, W] of these classes by PAIRS, and the worst images' maps."""
    maps: dict[str, Agreement | None] = dict.fromkeys(PAIRS)
    maps["int8_float32"], values = agreement(int8, float32, test.names, test.groups)
    worst = lowest(values)
    if teacher is not None:
        theirs = teacher(test, classes, progress)
        for name, own in (("float32_teacher", float32), ("int8_teacher", int8)):
            maps[name], _ = agreement(*on_one_grid(own, theirs, (place, teacher.placement)), test.names, test.groups)
    return maps, {"index": worst, "classes": classes[worst], "values": values[worst], "float32": float32[worst],
                  "int8": int8[worst]}


class TeacherMaps:
    """Class maps of a run's teacher. placement: where their cells lie."""

    def __init__(self, teacher: Run, size: int, classes: Sequence[str]) -> None:
        own = (teacher.summary or {}).get("classes", classes)
        self.model = predict.load(teacher, len(own))
        self.placement = placements(self.model, size)[-1]
        self._number = [list(own).index(name) for name in classes]  # the teacher may number the classes otherwise

    def __call__(self, test: Split, classes: NDArray[np.int64], progress: ShareCallback = no_share) -> Maps:
        """Maps [N, H, W] of these classes [N] of the test images."""
        parts, start = [], 0
        for batch in batches(test):
            wanted = [self._number[one] for one in classes[start:start + len(batch)]]
            with torch.no_grad():
                cams = self.model(torch.from_numpy(batch), cams=True, stages=False).cams
            parts.append(cams[torch.arange(len(batch)), wanted].numpy())
            start += len(batch)
            progress(start / len(test))
        return np.concatenate(parts)


def teacher_maps(store: Store, run: Run, classes: Sequence[str]) -> TeacherMaps | None:
    """The teacher's class maps; None for a run without a teacher, whose teacher was deleted, or has other classes."""
    teacher = store.get(run.spec.teacher) if run.spec.teacher else None
    if teacher is None or teacher.status != FINISHED or set(classes) - set((teacher.summary or {}).get("classes", ())):
        return None
    return TeacherMaps(teacher, run.spec.image_size, classes)
