"""The working size, and the student's input size, where nobody has chosen them.

A map's grid grows with the image: at 96 px the last stage of most networks has 3×3 cells, at 224 px 7×7.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from kd.datasets import DataRef
from kd.errors import UsageError
from kd.experiments.plan import DistillSpec, plan_specs
from kd.experiments.sweep import Sweep, cells, request
from kd.spec import RunSpec
from kd.store.runs import Store

SIZES = (224, 160, 128, 96)  # most pretrained weights were made for 224 px
STUDENT_SIZE = 96  # enough for a small student, at a fifth of the FLOPs of 224 px
STUDENT_SIZES = (96, 80, 64, 56, 48)  # of a student that has its teacher's first stages
SHARE = 1 / 20  # of the teacher's FLOPs
BUDGET = 3600.0  # seconds of training on this machine, by the forecast
CHOSEN = ("image_size", "student_size")  # the settings of a distillation that are recommended


@dataclass(frozen=True)
class Recommendation:
    """A recommended working size in pixels, and the reason, a sentence."""

    size: int
    reason: str


def with_sizes(wanted: DistillSpec, given: Collection[str], store: Store,
               data: DataRef) -> tuple[DistillSpec, str]:
    """The request with the recommended sizes in place of those that are not among the `given` settings, and why, a
    sentence. With a given working size the student has that too, unless its own is given; but a student made of its
    teacher's first stages has the largest input size at which it needs a twentieth of the teacher's FLOPs.

    Takes seconds for a model that has not been timed yet. Raises UsageError for a request that cannot be planned.
    """
    if "image_size" in given:
        return _at(wanted, wanted.image_size, given, store, data), ""
    teacher = store.get(wanted.teacher)
    if teacher is not None:
        found = Recommendation(teacher.spec.image_size, f"{teacher.spec.image_size} px, as the teacher's images have.")
    else:
        least = wanted.student_size if "student_size" in given else 0
        found = recommended(data, lambda size: _distillation(_at(wanted, size, given, store, data), store, data),
                            least, _taken(wanted.teacher) or _taken(wanted.student))
    return _at(wanted, found.size, given, store, data), found.reason


def sweep_with_sizes(wanted: Sweep, given: Collection[str], store: Store, data: DataRef) -> tuple[Sweep, str]:
    """As `with_sizes`, for all cells alike: the forecast is the first cell's."""
    chosen, reason = with_sizes(request(wanted, cells(wanted)[0]), {*given, *wanted.axes}, store, data)
    sizes = {name: getattr(chosen, name) for name in CHOSEN if name not in wanted.axes}
    return replace(wanted, base=replace(wanted.base, **sizes)), reason


def run_with_sizes(settings: Mapping[str, Any], store: Store, data: DataRef) -> tuple[dict[str, Any], str]:
    """As `with_sizes`, for the settings of one run, fields of `RunSpec` by name. A model of the student families has
    the student's input size. Raises UsageError."""
    network = settings.get("base", "") if settings.get("model") == "truncated" else settings.get("model", "")
    taken = _taken(network)

    def at(size: int) -> dict[str, Any]:
        small = settings.get("model") in ("plain", "truncated") and size > STUDENT_SIZE and not taken
        return {"input_size": STUDENT_SIZE if small else 0, **settings, "image_size": size}

    if "image_size" in settings:
        return dict(settings), ""
    found = recommended(data, lambda size: _single(at(size), store, data), settings.get("input_size", 0), taken)
    return at(found.size), found.reason


def _taken(network: str) -> tuple[int, ...]:
    """The working sizes that a network takes; empty where it takes any, and for a student of ours."""
    from kd.models.catalogue import sizes_taken  # torch

    found = sizes_taken(network)
    return tuple(size for size in SIZES if size in found) or found[:1]


def recommended(data: DataRef, plan: Callable[[int], tuple[bool, float]], least: int = 0,
                taken: tuple[int, ...] = ()) -> Recommendation:
    """The largest working size whose training fits into BUDGET, no larger than the images' detail.

    plan: whether runs with these settings exist at a size, which are then used again, and the forecast in seconds.
    least: the smallest size that serves. taken: the sizes that the networks take, largest first; empty for any.
    """
    sizes = [size for size in taken if size >= least] or list(taken) or [*SIZES]
    smallest = max(sizes[-1], least)
    if smallest > max(SIZES[-1], least) and data.side <= smallest:
        return Recommendation(smallest, f"{smallest} px: the model takes no smaller ones.")
    if not data.side:
        return Recommendation(smallest, f"{smallest} px: the images are drawn at the size asked for.")
    if data.side <= smallest:
        return Recommendation(smallest, f"{smallest} px: the images have {data.side} px, and more would add no detail.")
    possible = [size for size, smaller in pairwise((*sizes, 0)) if data.side > smaller and size >= least] or [smallest]
    larger = ""
    for size in possible:
        exists, seconds = plan(size)
        if exists:
            return Recommendation(size, f"{size} px, as a teacher with these settings has been trained here.")
        forecast = f"{size} px: by the forecast, training takes about {_time(seconds)} here"
        if seconds <= BUDGET:
            return Recommendation(size, f"{forecast}{larger}.")
        larger = f", at {size} px {_time(seconds)}, which is more than {_time(BUDGET)}"
    return Recommendation(possible[-1], f"{forecast}, and more at every larger size.")


def _at(wanted: DistillSpec, size: int, given: Collection[str], store: Store, data: DataRef) -> DistillSpec:
    """The request at a working size, with the student's."""
    wanted = replace(wanted, image_size=size, student_size=wanted.student_size if "student_size" in given else 0)
    if "student_size" in given:
        return wanted
    if wanted.student == "truncated":
        return replace(wanted, student_size=_small_share(wanted, store, data))
    smaller = size > STUDENT_SIZE and "image_size" not in given and not _taken(wanted.student)
    return replace(wanted, student_size=STUDENT_SIZE if smaller else 0)


def _small_share(wanted: DistillSpec, store: Store, data: DataRef) -> int:
    """The largest input size at which the student needs SHARE of the teacher's FLOPs, or the smallest that it takes; 0
    where that is the working size."""
    from kd.models import cost

    teacher, control, _ = plan_specs(wanted, store, data)
    most, smallest = SHARE * cost.cost(teacher, len(data.classes)).flops, 0
    for size in (one for one in STUDENT_SIZES if one < wanted.image_size):
        try:
            flops = cost.cost(replace(control, input_size=size), len(data.classes)).flops
        except UsageError:  # too small for this network
            break
        smallest = size
        if flops <= most:
            break
    return smallest


def _distillation(wanted: DistillSpec, store: Store, data: DataRef) -> tuple[bool, float]:
    from kd.experiments.estimate import estimate_resources  # torch: not for pages that only read runs

    specs = plan_specs(wanted, store, data)
    if store.find(specs[0]) is not None:
        return True, 0.0
    return False, estimate_resources(specs, data, store).seconds


def _single(settings: Mapping[str, Any], store: Store, data: DataRef) -> tuple[bool, float]:
    from kd.experiments.estimate import estimate_run
    from kd.experiments.plan import plan_single_run

    spec: RunSpec = plan_single_run(settings, store, data)
    if store.find(spec) is not None:
        return True, 0.0
    return False, estimate_run(spec, data, store)


def _time(seconds: float) -> str:
    """A time no more exact than a forecast: `25 minutes`."""
    for word, unit, length in (("an hour", "hours", 3600.0), ("a minute", "minutes", 60.0)):
        if seconds >= 0.95 * length:
            return word if seconds < 1.5 * length else f"{seconds / length:.0f} {unit}"
    return "less than a minute"
