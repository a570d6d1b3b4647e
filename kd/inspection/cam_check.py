"""Independent check of class activation maps: our raw maps against those of the package pytorch-grad-cam."""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.explainers.pytorch_grad_cam import MOST_CELLS, Raw, private_copy, raw_map
from kd.inspection.compare import Comparison
from kd.inspection.explain import Explanation
from kd.inspection.model_pool import ModelPool, load_model
from kd.models.base import Classifier
from kd.store.eight_bit import EightBit
from kd.store.files import modified
from kd.store.runs import FINISHED

# The package's class of each explainer that is implemented here.
COUNTERPARTS = {
    "grad-cam": "GradCAM", "grad-cam-plus-plus": "GradCAMPlusPlus", "hires-cam": "HiResCAM", "layer-cam": "LayerCAM",
    "xgrad-cam": "XGradCAM", "eigen-cam": "EigenCAM", "score-cam": "ScoreCAM", "ablation-cam": "AblationCAM"}
TOLERANCE = 1e-3  # float32 sums in another order differ by 1e-6; where features nearly cancel, sometimes by 1e-4
CANCELLED = 1e-4  # of the summed terms: smaller values are rounding, for which our map is blank

Values = NDArray[np.floating]


@dataclass(frozen=True)
class CamCheck:
    """Difference between our maps and the package's.

    difference: maximum over all cells and maps, as a share of the maximum of the package's map; nan where only one of
    the two is finite; None where nothing could be compared, for the `reason`.
    """

    explainer: str
    difference: float | None
    reason: str = ""

    @property
    def equal(self) -> bool:
        """Whether the maps are equal up to rounding."""
        return self.difference is not None and self.difference <= TOLERANCE

    @property
    def sentence(self) -> str:
        """Result in one sentence."""
        title = EXPLAINERS[self.explainer].info.title
        package = f"pytorch-grad-cam {package_version()}"
        if self.difference is None:
            return f"{title} not compared with {package}: {self.reason}."
        if self.equal:
            return f"{title} equal to {package} to {max(self.difference, 1e-9):.0e} of the greatest value."
        return (f"{title} differs from {package} by {self.difference:.2g} of the greatest value: one of the two is "
                "wrong for this model.")

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        finite = self.difference is not None and np.isfinite(self.difference)
        return {"package": f"grad-cam {package_version()}", "difference": self.difference if finite else None,
                "equal": self.equal, "reason": self.reason}


@lru_cache
def package_version() -> str:
    """Version of the installed package."""
    return version("grad-cam")


def require_counterpart(explainer: str) -> None:
    """Raises UsageError for an explainer that the package cannot check, or that does not exist."""
    if EXPLAINERS[explainer] and explainer not in COUNTERPARTS:
        raise UsageError(f"There is nothing to check {explainer} by: pytorch-grad-cam has no explainer of its own like "
                         f"it. Leave the check out, or take one of {', '.join(COUNTERPARTS)}.")


def check(model: Classifier, explanation: Explanation) -> CamCheck:
    """Check of an explanation's maps against the package's for the same model, image, class and stages.

    model: the explained model. explanation: by one of COUNTERPARTS.
    """
    name = explanation.explainer
    if not model.differentiable:
        return CamCheck(name, None, "an 8-bit student has no gradients, which the package needs")
    image = to_tensor(explanation.image[None], model.mean.device)[0]
    found = []
    with private_copy(model) as copied:
        for heat in explanation.maps:
            if name == "eigen-cam" and heat.values.size > MOST_CELLS:
                found.append(CamCheck(name, None, "its decomposition of so fine a map would take gigabytes"))
                continue
            raw = raw_map(COUNTERPARTS[name], copied, image, explanation.target, heat.stage)
            with torch.no_grad():
                logit = float(copied(image[None]).logits[0, explanation.target])
            found.append(_compared(name, heat.values, raw, logit))
    return worst(found)


def check_comparison(comparison: Comparison, pool: ModelPool | None = None) -> CamCheck | None:
    """Worst check of a comparison's maps; None where the package has no instant counterpart.

    Covers finished runs only: the weights of others may have changed since.
    """
    found = [check(load_model(one.run, pool).model, one) for one in (panel.explanation for panel in comparison.panels)
             if _checkable(one)]
    return worst(found) if found else None


def _checkable(explanation: Explanation) -> bool:
    return (explanation.explainer in COUNTERPARTS and EXPLAINERS[explanation.explainer].info.cost == "instant"
            and explanation.run.status == FINISHED and not isinstance(explanation.run, EightBit))


def check_key(comparison: Comparison) -> Hashable:
    """Key of a comparison's check: everything that it depends on."""
    one = comparison.teacher.explanation
    image = hashlib.sha256(comparison.image.tobytes()).hexdigest()
    return (image, one.target, *((panel.explanation.run.path, modified(panel.explanation.run.weights),
                                    panel.explanation.run.status, panel.explanation.explainer,
                                    *(heat.stage for heat in panel.explanation.maps)) for panel in comparison.panels))


class BackgroundChecks:
    """Checks of comparisons in a background thread, one after another; the latest `most` results are kept in memory."""

    def __init__(self, most: int = 256) -> None:
        self._most, self._lock = most, threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cam-check")
        self._found: OrderedDict[Hashable, Future[CamCheck | None]] = OrderedDict()

    def ask(self, key: Hashable, comparison: Comparison) -> Future[CamCheck | None]:
        """Check of a comparison, started at the first call. key: everything that the maps depend on (`check_key`)."""
        with self._lock:
            if key not in self._found:
                self._found[key] = self._worker.submit(_without_failing, comparison)
            self._found.move_to_end(key)
            while len(self._found) > self._most:
                self._found.popitem(last=False)
            return self._found[key]


def _without_failing(comparison: Comparison) -> CamCheck | None:
    try:
        return check_comparison(comparison)
    except Exception as error:  # a check that cannot be made is no reason for a page to fail
        logging.getLogger(__name__).exception("a check of class activation maps failed")
        return CamCheck(comparison.explainer, None, f"the check failed ({type(error).__name__}: {error})")


@lru_cache
def shared_checks() -> BackgroundChecks:
    """Background checks of this process."""
    return BackgroundChecks()


def worst(checks: Iterable[CamCheck]) -> CamCheck:
    """Check with the greatest difference; one without a difference only where all are so. checks: at least one."""
    def rank(one: CamCheck) -> float:
        if one.difference is None:
            return -1.0
        return one.difference if np.isfinite(one.difference) else np.inf

    return max(checks, key=rank)


def _compared(name: str, ours: Values, raw: Raw, logit: float) -> CamCheck:
    if name == "ablation-cam" and raw.features.min() != 0:
        return CamCheck(name, None, "it switches a channel off by a large negative value where features fall below 0")
    theirs = _theirs(name, raw, logit)
    most = np.abs(theirs).max()
    terms = raw.features if raw.gradients is None else raw.features * raw.gradients
    if not np.isfinite(ours).all() and not np.isfinite(theirs).all():
        return CamCheck(name, None, "the model has diverged and neither map is finite")
    if not np.ptp(ours) and most <= CANCELLED * np.abs(terms).sum(axis=0).max():
        return CamCheck(name, None, "the map is blank")
    return CamCheck(name, float(np.abs(ours - theirs).max() / max(float(most), 1e-30)))


def _theirs(name: str, raw: Raw, logit: float) -> Values:
    """The package's map converted to our definition, where the two differ on purpose."""
    if name == "hires-cam":
        return raw.map  # signed; the package cuts off what is below 0 later
    if name == "eigen-cam":  # a direction has no sign
        return np.maximum(raw.map if raw.map.max() >= -raw.map.min() else -raw.map, 0)
    if name == "ablation-cam":
        return np.maximum(raw.map * logit, 0)  # it divides by the logit, whose sign would turn the map around
    return np.maximum(raw.map, 0)
