"""Choice of the test images that a report shows, each group by a rule that the report states. Without torch."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd.evaluation.report import ALIKE, SURE, ImageCase, ModelReport, image_case, image_cases

TYPICAL, APART, FAILURES, SHARED = 4, 3, 3, 2  # images of each group, at most


@dataclass(frozen=True)
class CaseGroup:
    """Some test images. rule: how they were chosen, in a sentence."""

    title: str
    rule: str
    cases: tuple[ImageCase, ...]


def successes(teacher: ModelReport, student: ModelReport, outlined: NDArray[np.bool_] | None) -> CaseGroup:
    """A typical image of each of the first classes that both models get right. outlined: whether each test image [N]
    has an outline of its evidence; None where no image has one."""
    right = teacher.answers.right & student.answers.right
    found = []
    for label in range(len(teacher.classes)):
        own = np.flatnonzero(right & (teacher.answers.labels == label))
        if outlined is not None and outlined[own].any():
            own = own[outlined[own]]
        if len(own):
            order = own[np.argsort(student.confidence[own], kind="stable")]
            found.append(image_case(int(order[(len(order) - 1) // 2]), teacher, student))
    preferred = "; images whose evidence is outlined come first" if outlined is not None else ""
    return CaseGroup("Both are right", "Of the test images that teacher and student both classify correctly, one of "
                     f"each class{' (the first four)' if len(found) > TYPICAL else ''}: the one on which the student's "
                     f"confidence is the median{preferred}.", tuple(found[:TYPICAL]))


def disagreements(teacher: ModelReport, student: ModelReport, shown: Iterable[int]) -> CaseGroup:
    """The images whose class probabilities by teacher and student differ most. shown: images to leave out."""
    apart = np.abs(teacher.probabilities - student.probabilities).sum(axis=1) / 2
    order = [int(number) for number in np.argsort(-apart, kind="stable") if number not in set(shown)][:APART]
    return CaseGroup("They disagree most", "The test images on which the class probabilities of teacher and student "
                     "differ most (total variation distance).",
                     tuple(image_case(number, teacher, student) for number in order if apart[number] > 0))


def failures(teacher: ModelReport, student: ModelReport, shown: Iterable[int]) -> tuple[CaseGroup, ...]:
    """The student's most confident errors, and errors that it shares with its teacher. shown: images to leave out."""
    taken, groups = set(shown), []
    for title, kind, most, rule in (
            ("Most confident errors of the student", SURE, FAILURES,
             "The student's wrong answers of the highest confidence"),
            ("Errors that student and teacher share", ALIKE, SHARED,
             "The images that both put into the same wrong class, the student's most confident first")):
        ranked, total = image_cases(kind, teacher, student, count=most + len(taken))
        picked = tuple(one for one in ranked if one.index not in taken)[:most]
        taken |= {one.index for one in picked}
        if total:
            groups.append(CaseGroup(title, f"{rule}; there are {total:,} in all, and those shown above are left out.",
                                    picked))
    return tuple(one for one in groups if one.cases)
