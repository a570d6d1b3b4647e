"""Heat maps of a report's test images: teacher, control and student side by side, as small JPEG files in the page."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.datasets.base import Dataset
from kd.evaluation.report import ImageCase
from kd.explainers import EXPLAINERS, offered
from kd.inspection.compare import CAM, Comparison, ModelPanel, compare
from kd.inspection.explain import Explanation
from kd.inspection.heat_map import HeatMap
from kd.inspection.overlay import SIGNED, outline, overlay, upsample
from kd.reporting.cases import CaseGroup
from kd.store.eight_bit import eight_bit_of
from kd.store.runs import Run, Store
from kd.wording import percent

SIDE, QUALITY = 208, 80  # pixels a side, and of JPEG: about 7 kB each
REPEATS = 7  # of the timing, on the first image


@dataclass(frozen=True)
class Picture:
    """One image of the report. source: a data URI. caption: what it is. alt: what it shows, for who cannot see it."""

    source: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Answer:
    """A model's answer for an image: its class and the class's probability in words; right: whether it is the true
    one."""

    role: str
    predicted: str
    probability: str
    right: bool


@dataclass(frozen=True)
class ShownCase:
    """A test image with its maps. outlined: whether its evidence is outlined in them."""

    case: ImageCase
    target: str
    answers: tuple[Answer, ...]
    pictures: tuple[Picture, ...]
    outlined: bool


@dataclass(frozen=True)
class ShownGroup:
    """A group of test images with their maps."""

    title: str
    rule: str
    cases: tuple[ShownCase, ...]


class MapMaker:
    """Maker of a distillation's maps. timed: the comparison on which times were measured; None before the first."""

    def __init__(self, store: Store, student: Run, data: Dataset) -> None:
        self.store, self.student, self.data = store, student, data
        form = eight_bit_of(student)
        self.others = [form] if form and CAM in offered([student, form]) else []
        self.timed: Comparison | None = None
        self.coarse = ""

    def group(self, group: CaseGroup, report: Callable[[], None]) -> ShownGroup:
        """The group with its maps. report: called after each image; it may raise to stop."""
        shown = []
        for case in group.cases:
            shown.append(self._case(case))
            report()
        return ShownGroup(group.title, group.rule, tuple(shown))

    def _case(self, case: ImageCase) -> ShownCase:
        image = np.asarray(self.data.test.images[case.index])
        found = compare(self.store, self.student, image, repeats=1 if self.timed else REPEATS,
                        others=self.others)
        self.timed = self.timed or found
        self.coarse = self.coarse or found.coarse
        mask = self._evidence(case.index)
        large = _sized(image)
        first = [Picture(_jpeg(large), "Image", f"Test image {case.name}, true class {case.truth}")]
        if mask is not None:
            first.append(Picture(_jpeg(outline(large, mask)), "Evidence outlined",
                                 f"The same image; the outlined evidence lies {_where(mask / 255)}"))
        maps = [picture for part in found.panels for picture in _of_panel(part, large, mask)]
        answers = tuple(_answer(part, case.truth) for part in found.panels)
        return ShownCase(case, found.target, answers, (*first, *maps), mask is not None)

    def _evidence(self, number: int) -> NDArray[np.uint8] | None:
        """The outline of an image; None where it has none, or nothing to outline."""
        test = self.data.test
        if test.evidence is None or test.has_evidence is None or not test.has_evidence[number]:
            return None
        mask = np.asarray(test.evidence[number])
        return mask if mask.any() else None


def outlined(data: Dataset) -> NDArray[np.bool_] | None:
    """Whether each test image [N] has an outline that is not empty; None where none has one."""
    test = data.test
    if test.evidence is None or test.has_evidence is None:
        return None
    found = np.array([bool(known and np.asarray(mask).any())
                      for known, mask in zip(test.has_evidence, test.evidence, strict=True)])
    return found if found.any() else None


def _of_panel(part: ModelPanel, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> list[Picture]:
    made = [_map(part.role, one, image, mask) for one in part.main_maps]
    if part.masked_image is not None:
        seen = Picture(_jpeg(_sized(part.masked_image)), f"{part.role.capitalize()} · masked input",
                       f"What the {part.role} sees of the image through its mask")
        made.append(seen)
    return made


def _map(role: str, one: Explanation, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Picture:
    heat, title = one.maps[0], EXPLAINERS[one.explainer].info.title
    caption = f"{role.capitalize()} · {title}, {heat.grid}"
    what = f"{title} of the {role}, which predicts {one.classes[one.predicted]}: "
    if heat.blank:
        return Picture(_jpeg(outline(image, mask)), f"{caption} · blank", f"{what}blank")
    drawn = overlay(image, heat.scaled, colormap=SIGNED if heat.signed else "inferno", placement=heat.placement)
    return Picture(_jpeg(outline(drawn, mask)), caption, f"{what}highest {_where(_painted(heat))}")


def _painted(heat: HeatMap) -> NDArray[np.float32]:
    """The map as it lies on the image, as positive values."""
    return upsample(heat.scaled, 48, heat.placement)


def _where(values: NDArray[np.floating]) -> str:
    """`upper left`: the third of the image with the greatest sum over the top 5 % of the values."""
    top = values >= np.quantile(values, 0.95)
    rows, columns = np.nonzero(top & (values > 0))
    if not len(rows):
        return "nowhere"
    down, across = (int(3 * at.mean() / size) for at, size in zip((rows, columns), values.shape, strict=True))
    words = (("at the upper left", "at the top", "at the upper right"), ("at the left", "in the middle",
             "at the right"), ("at the lower left", "at the bottom", "at the lower right"))
    return words[min(down, 2)][min(across, 2)]


def _answer(part: ModelPanel, truth: str) -> Answer:
    one = part.explanation
    name = one.classes[one.predicted]
    return Answer(part.role, name, percent(float(one.probabilities[one.predicted])), name == truth)


def _sized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    """A data URI."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def titles(comparison: Comparison) -> Sequence[tuple[str, str]]:
    """The explainers of a comparison: title, and how to read it."""
    names = dict.fromkeys(one.explainer for part in comparison.panels for one in part.main_maps)
    return [(EXPLAINERS[name].info.title, EXPLAINERS[name].info.reading_note) for name in names]
