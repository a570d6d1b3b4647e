"""Dementia MRI: the brain shrinks by grade, ventricles and furrows widen, the hippocampus goes first.

Coronal T1 slices with the skull taken off, several per person, as in the OASIS pictures; the signs are those of the
visual scales for medial temporal atrophy (Scheltens et al. 1992) and global cortical atrophy (Pasquier et al. 1996).
"""

import numpy as np

from kd.datasets.base import Facts
from kd.datasets.phantoms import drawing as d
from kd.datasets.phantoms.anatomy import Anatomy, Brain, draw_brain
from kd.datasets.phantoms.base import CAVEATS, LICENCE, Drawing, Phantom, Subject, register

CLASSES = ("NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented")
VIEWS = 4
PERSON, FOLDS, SLICE, SCANNER, NOISE, LOSS = range(6)


def draw(subject: Subject) -> Drawing:
    """One slice. The mask holds ventricles, furrows and hippocampi of a brain that has lost tissue."""
    work = d.working_size(subject.size)
    brain = _brain(subject, work)
    picture = _scan(subject, d.shrink(brain.picture, subject.size))
    if subject.label == 0 or not subject.evidence:
        return Drawing(picture, np.zeros((subject.size, subject.size), np.uint8))
    region = np.maximum(np.maximum(brain.furrows * d.cover(brain.outline), brain.ventricles), brain.hippocampi)
    # The grey ribbon moves with its furrow, so the evidence reaches a little beyond the fluid.
    spread = d.blur(region, 40) * np.float32(1.5)
    return Drawing(picture, d.to_mask(d.shrink(np.maximum(region, spread), subject.size)))


def atrophy(subject: Subject) -> float:
    """Loss of tissue of this person, about 0 (none) .. 1.2; the grades overlap more the harder the set."""
    rng = subject.stream(LOSS)
    grade = (subject.label if subject.evidence else 0) / 3
    return max(0.0, grade + float(np.clip(rng.normal(), -2, 2)) * subject.between(0.01, 0.12))


def _brain(subject: Subject, work: int) -> Brain:
    """The person's anatomy at this slice; slices of one person share everything but depth and a little pose."""
    person, own = subject.stream(PERSON), subject.stream(SLICE, subject.view)
    loss = atrophy(subject)
    vary = subject.between(0.01, 0.10)
    ventricles, sulci, hippocampus = 1 + vary * np.clip(person.normal(size=3), -2, 2)
    depth = (subject.view - (VIEWS - 1) / 2) / VIEWS * 1.2 + own.uniform(-0.12, 0.12)
    contrast, murk = person.uniform(-1, 1, size=2) * subject.between(0.5, 1.5)
    anatomy = Anatomy(ventricles=ventricles * (0.72 + 1.38 * loss), sulci=sulci * (0.35 + 2.25 * loss),
                      hippocampus=max(0.3, hippocampus * (1.04 - 0.62 * loss)), depth=depth,
                      white=0.80 + 0.04 * contrast, grey=0.53 - 0.05 * contrast, fluid=0.13 + 0.05 * murk,
                      folds=int(person.integers(22, 28)))
    turn = subject.between(0.04, 0.12)
    x, y = d.posed(work, person.normal() * turn + own.normal() * 0.02,
                   (float(np.clip(person.normal(), -2, 2)) * turn * 0.5, 0.10 + float(person.normal()) * turn * 0.3),
                   (1.30 + float(np.clip(person.normal(), -2, 2)) * turn * 0.5) * (1 - 0.05 * depth**2))
    return draw_brain(subject.stream(FOLDS), x, y, anatomy)


def _scan(subject: Subject, picture: d.Field) -> np.ndarray:
    """The scanner's share: gain, bias, noise."""
    rng = subject.stream(SCANNER, subject.view)
    bias = d.bias_field(subject.stream(SCANNER), subject.size, subject.between(0.02, 0.14))
    gain = 1 + subject.between(0.04, 0.24) * rng.uniform(-1, 1)
    picture = np.clip(picture, 0, None)**np.float32(1 + 0.15 * rng.uniform(-1, 1)) * bias * np.float32(gain)
    noise = subject.stream(NOISE, subject.view)
    return d.to_pixels(d.rician(noise, picture, subject.between(0.012, 0.05)))


register(Phantom(
    "phantom-dementia",
    Facts("Dementia MRI (drawn phantom, not patients)", "coronal brain slices drawn by KD Lens", LICENCE,
          (*CAVEATS, f"{VIEWS} slices per drawn person; splits never share a person.")),
    CLASSES, "NonDemented", draw, VIEWS))
