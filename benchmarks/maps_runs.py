"""Runs, images with evidence and Markdown tables for the tables on maps."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import Split
from kd.errors import UsageError
from kd.explanation_metrics import localisation
from kd.metrics.bootstrap import ConfidenceInterval
from kd.paths import Paths, default_paths
from kd.store.runs import FINISHED, Run, Store


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images [N, S, S, 3] with masks of their evidence [N, S, S], the classes to explain [N], and patients."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    targets: NDArray[np.int64]
    groups: list[str] | None

    def __len__(self) -> int:
        return len(self.targets)


def scenes(splits: Sequence[Split], named: Sequence[str], classes: Sequence[str]) -> Scenes:
    """The images of some splits that have evidence. named: the splits' classes; classes: the model's, by which they are
    numbered."""
    found = [one for split in splits if (one := _scenes(split, named, classes))]
    if not found:
        raise UsageError("None of these images has a mask of its evidence and a class that the model knows.")
    groups = [one.groups for one in found]
    return Scenes(np.concatenate([one.images for one in found]), np.concatenate([one.masks for one in found]),
                  np.concatenate([one.targets for one in found]),
                  None if None in groups else [name for names in groups for name in names or ()])


def _scenes(split: Split, named: Sequence[str], classes: Sequence[str]) -> Scenes | None:
    index = localisation.masked(split, np.arange(len(split)))
    index = index[np.array([named[label] in classes for label in split.labels[index]], bool)]
    if not len(index) or split.evidence is None:
        return None
    targets = np.array([classes.index(named[label]) for label in split.labels[index]])
    return Scenes(np.asarray(split.images[index]), np.asarray(split.evidence[index]), targets,
                  None if split.groups is None else [split.groups[number] for number in index])


def opened_store(chosen: Namespace) -> Store:
    """The store that `--root` names."""
    return Store(Paths(Path(chosen.root).resolve()) if chosen.root else default_paths())


def chosen_runs(store: Store, chosen: Namespace, fits: Callable[[Run], bool]) -> list[Run]:
    """The runs named, or all finished ones that fit, by data set, model and seed. Raises UsageError for none."""
    runs = [store[name] for name in chosen.run] or [run for run in store if run.status == FINISHED and fits(run)]
    data = {str(Path(path).resolve()) for path in chosen.data} | set(chosen.data)
    runs = [run for run in runs if not data or run.spec.data in data or str(Path(run.spec.data).resolve()) in data]
    if not runs:
        raise UsageError("No finished run fits. Train one, or name it by --run; --root says where runs lie.")
    return sorted(runs, key=lambda run: (run.spec.data, run.spec.model_label, run.spec.seed))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; all but the first column are aligned to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def spelt(found: ConfidenceInterval, signed: bool = False) -> str:
    """`.545 [.452, .633]`, or without the interval where there is none."""
    if found.mean is None:
        return "–"
    ends = "" if found.low is None or found.high is None else f" [{short(found.low)}, {short(found.high)}]"
    return short(found.mean, signed) + ends


def short(value: float, signed: bool = False) -> str:
    """`.545`, `−.012`, or with a sign `+.545`; `–` for no number."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("-", "−").replace("0.", ".", 1)
