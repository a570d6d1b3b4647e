"""Saved explanations: those that take long are computed once, on the queue, and stored with the run."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.explainers import EXPLAINERS, StageChoice, scale
from kd.inspection.compare import CAM, Comparison
from kd.inspection.explain import Explanation, explain, pack
from kd.inspection.heat_map import HeatMap
from kd.placement import Placement
from kd.progress import ProgressCallback
from kd.store.files import modified, read_npz, write_bytes, write_json
from kd.store.runs import Run, Store
from kd.timing import Timing

FOLDER = "explanations"


@dataclass(frozen=True)
class SavedKey:
    """Key of a saved explanation.

    image: index in the run's test split. target: a class's name, or empty for the predicted one. stage: from
    `kd.explainers.stage_key`.
    """

    explainer: str = CAM
    image: int = 0
    target: str = ""
    stage: StageChoice = -1

    @property
    def name(self) -> str:
        """Name of its files. A class's name can contain any character, so its digest is used."""
        digest = hashlib.sha256(self.target.encode()).hexdigest()[:8]
        return f"{self.explainer}-{self.image}-{digest}{self.stage}"


def compute(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
            should_stop: Callable[[], bool]) -> Explanation:
    """Explain one test image and save the explanation. args: the fields of `SavedKey`.

    Raises Stopped when `should_stop` returns True, and UsageError for an unknown explainer, class, stage or image.
    """
    wanted = SavedKey(**args)
    title = EXPLAINERS[wanted.explainer].info.title
    image = _image(store, run, wanted.image)

    def report(share: float) -> None:
        if should_stop():
            raise Stopped
        progress(f"{title} of test image {wanted.image}", share)

    report(0.0)
    found = explain(run, image, wanted.explainer, wanted.target or None, wanted.stage, progress=report)
    _save(run, wanted, found)
    return found


def load(run: Run, wanted: SavedKey, image: NDArray[np.uint8]) -> Explanation | None:
    """What `compute` kept of this image [S, S, 3] with the run's present weights, or None."""
    facts, maps = _paths(run, wanted)
    try:
        stored, arrays = json.loads(facts.read_text()), read_npz(maps) or {}
        values = [arrays[f"{number:02d}"] for number in range(len(stored["maps"]))]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    if stored["picture"] != _digest(image) or stored["weights"] != modified(run.weights):
        return None
    absolute = EXPLAINERS[wanted.explainer].info.absolute
    shown = tuple(_heat_map(one, raw, absolute) for one, raw in zip(stored["maps"], values, strict=True))
    probabilities = np.array([np.nan if one is None else one for one in stored["probabilities"]])
    plain = {name: stored[name] for name in ("target", "ratio", "parameters", "flops", "protocol", "note")}
    return Explanation(run=run, explainer=wanted.explainer, image=image, classes=tuple(stored["classes"]),
                       probabilities=probabilities, maps=shown, timing=Timing(**stored["timing"]),
                       forward=Timing(**stored["forward"]), **plain)


def with_explanations(comparison: Comparison, found: Mapping[str, Explanation]) -> Comparison:
    """The comparison with these explanations, by role, in place of those it was made with: one for every part."""
    parts = {part.role: replace(part, explanation=found[part.role]) for part in comparison.panels}
    return replace(comparison, teacher=parts[comparison.teacher.role], student=parts[comparison.student.role],
                   control=parts[comparison.control.role] if comparison.control else None,
                   others=tuple(parts[part.role] for part in comparison.others))


def _image(store: Store, run: Run, number: int) -> NDArray[np.uint8]:
    data = predict.data_of(run, store)
    if not 0 <= number < len(data.test):
        raise UsageError(f"There is no test image {number}: this data set has {len(data.test)}, numbered from 0.")
    return np.asarray(data.test.images[number])


def _save(run: Run, wanted: SavedKey, found: Explanation) -> None:
    """Write the maps, then the JSON that names them."""
    facts, maps = _paths(run, wanted)
    facts.parent.mkdir(exist_ok=True)
    facts.unlink(missing_ok=True)
    write_bytes(maps, pack({f"{number:02d}": one.values for number, one in enumerate(found.maps)}))
    write_json(facts, {
        **asdict(wanted), "picture": _digest(found.image), "weights": modified(run.weights),
        "target": found.target, "classes": list(found.classes),
        "probabilities": [float(one) if np.isfinite(one) else None for one in found.probabilities],
        "timing": found.timing.to_json(), "forward": found.forward.to_json(), "ratio": found.ratio,
        "parameters": found.parameters, "flops": found.flops, "protocol": found.protocol, "note": found.note,
        "maps": [{"stage": one.stage, "name": one.name, "blank": one.blank, "signed": one.signed,
                  "lies_on": one.lies_on, "placement": one.placement and one.placement.to_json()}
                 for one in found.maps]})


def _heat_map(facts: Mapping[str, Any], values: NDArray[np.float32], absolute: bool) -> HeatMap:
    scaled = scale(torch.from_numpy(values), facts["signed"], absolute).numpy()
    laid = facts["placement"] and Placement.from_json(facts["placement"])
    return HeatMap(values=values, scaled=scaled, **{**facts, "placement": laid})


def _paths(run: Run, wanted: SavedKey) -> tuple[Path, Path]:
    folder = run.path / FOLDER
    return folder / f"{wanted.name}.json", folder / f"{wanted.name}.npz"


def _digest(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
