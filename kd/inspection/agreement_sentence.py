"""Answer of a comparison in words: whether two models look at the same places in one image and over the test images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kd.metrics.grids import is_coarse, listed
from kd.roles import CONTROL, STUDENT, TEACHER

ALIKE, PARTLY, CHANCE, OPPOSITE, COARSE, BLANK, UNKNOWN = VERDICTS = (
    "alike", "partly", "chance", "opposite", "coarse", "blank", "unknown")
CLEAR = 0.95  # of the other images whose maps agree less: then the agreement is of this image
HIGH = 0.5  # rank correlation from which two maps agree by more than a part
FEWEST = 10  # other images: the share of fewer says little
PLACES = {ALIKE: "at the same places", PARTLY: "partly at the same places", OPPOSITE: "at different places"}


@dataclass(frozen=True)
class RoleAnswer:
    """Agreement of one model's map with the teacher's, and whether its peak is in the evidence.

    grid: rows and columns, of the map itself for the teacher, else those on which the two are compared. value: rank
    correlation (Spearman) with the teacher's map; None where either map is blank, and for the teacher. baseline: mean
    of the same with this model's maps of other images; share: of these that agree less. hit: None where no evidence is
    outlined, and where the map is blank or too coarse.
    """

    role: str
    grid: tuple[int, int]
    value: float | None = None
    baseline: float | None = None
    share: float | None = None
    hit: bool | None = None

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if is_coarse(self.grid):
            return COARSE
        if self.value is None:
            return BLANK
        if self.share is None:
            return UNKNOWN
        if self.share >= CLEAR:
            return ALIKE if self.value >= HIGH else PARTLY
        return OPPOSITE if self.value < 0 and self.share <= 1 - CLEAR else CHANCE


@dataclass(frozen=True)
class Answer:
    """Answer of a comparison: models by role, teacher first and student next; tested: over the test images, the section
    "agreement" of `kd.evaluation.explanation_store.load_all`, None where it has not been evaluated."""

    models: tuple[RoleAnswer, ...]
    tested: Mapping[str, Any] | None = None

    @property
    def headline(self) -> str:
        """The answer for this image without a number."""
        student = self._of(STUDENT)
        control = next((one for one in self.models if one.role == CONTROL), None)
        return f"In this image, {_headline(student)}{_beside(student, control)}."

    @property
    def details(self) -> tuple[str, ...]:
        """Sentences with the numbers: of this image, of the test images, of the outlined evidence."""
        return tuple(filter(None, (_numbers(self.models), over_test_images(self.tested), hit_sentence(self.models))))

    @property
    def text(self) -> str:
        return " ".join((self.headline, *self.details))

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        return {"text": self.text, "models": {one.role: {**asdict(one), "grid": list(one.grid), "verdict": one.verdict}
                                              for one in self.models if one.role != TEACHER},
                "hits": {one.role: one.hit for one in self.models}}

    def _of(self, role: str) -> RoleAnswer:
        return next(one for one in self.models if one.role == role)


def _headline(student: RoleAnswer) -> str:
    if student.verdict == COARSE:
        cells = "×".join(map(str, student.grid))
        return f"the maps are too coarse to tell whether teacher and student look at the same places ({cells} cells)"
    if student.verdict == BLANK:
        return "there is nothing to compare: the teacher's map or the student's is blank"
    if student.verdict == UNKNOWN:
        return "the agreement of teacher and student has no baseline to be judged by"
    if student.verdict == CHANCE:
        return "the agreement of teacher and student cannot be told from chance"
    return f"teacher and student look {PLACES[student.verdict]}"


def _beside(student: RoleAnswer, control: RoleAnswer | None) -> str:
    """What is true of the control, where both have a verdict."""
    if control is None or not {control.verdict, student.verdict} <= {CHANCE, *PLACES}:
        return ""
    if control.verdict == student.verdict:
        return "; the same goes for the control"
    if control.verdict == CHANCE:
        return "; that of the control cannot be told from chance"
    return f"; the control looks {PLACES[control.verdict]}"


def _numbers(models: Sequence[RoleAnswer]) -> str:
    """`Rank correlation with the teacher's map: student 0.81 (different images 0.22), control 0.30 (0.20).`"""
    shown = [one for one in models if one.value is not None and one.verdict != COARSE]
    parts = list(_with_chance([(one.role, one.value, one.baseline) for one in shown], "different images "))
    return f"Rank correlation with the teacher's map: {', '.join(parts)}." if parts else ""


def _with_chance(values: Sequence[tuple[str, Any, float | None]], what: str) -> Iterator[str]:
    """Values by role with their baselines, which are named at the first."""
    for role, value, baseline in values:
        if baseline is None:
            yield f"{role} {number(value)}"
        else:
            yield f"{role} {number(value)} ({what}{number(baseline)})"
            what = ""


def over_test_images(found: Mapping[str, Any] | None) -> str:
    """`On 200 test images: student 0.55 (different images 0.21), control 0.40 (0.20); distilling raised …`; empty where
    nothing was evaluated. found: see `Answer.tested`."""
    maps = (found or {}).get("maps") or {}
    if found is None or STUDENT not in maps:
        return ""
    start = f"On {found['images']} test images"
    if maps[STUDENT]["coarse"]:
        return f"{start}: too coarse to tell."
    own = {role: maps[role]["all"]["spearman"] for role in (STUDENT, CONTROL)
           if role in maps and not maps[role]["coarse"]}
    parts = _with_chance([(role, one["value"]["mean"], one["chance"]) for role, one in own.items()
                          if one["value"]["mean"] is not None], "different images ")
    text = ", ".join(parts)
    gain = (found.get("gain") or {}).get("spearman") if CONTROL in own else None
    return f"{start}: {text}{_gain(gain)}." if text else f"{start}: blank maps only."


def _gain(found: Mapping[str, Any] | None) -> str:
    """What distilling changed, of the paired difference of student and control above their baselines."""
    if found is None or found["low"] is None:
        return ""
    if found["low"] <= 0 <= found["high"]:
        return "; no difference between the two can be shown"
    change = "raised" if found["mean"] > 0 else "lowered"
    return (f"; distilling {change} the agreement above chance by {number(abs(found['mean']))} "
            f"(95 % interval of the change: {number(found['low'])} to {number(found['high'])})")


def hit_sentence(models: Sequence[RoleAnswer]) -> str:
    """Whose map peaks in the outlined evidence; empty where none is outlined."""
    hits, misses = ([one.role for one in models if one.hit is which] for which in (True, False))
    if not hits and not misses:
        return ""
    if not misses:
        return f"The map's peak is in the outlined evidence: {listed(hits)}."
    if not hits:
        return f"The map's peak misses the outlined evidence: {listed(misses)}."
    return f"The map's peak is in the outlined evidence for {listed(hits)}, not for {listed(misses)}."


def number(value: float) -> str:
    """`0.81`, `−0.20`."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
