"""Dementia MRI: the brain shrinks by grade, ventricles and furrows widen, the hippocampus goes first.

Coronal T1 slices with the skull taken off, several per patient, as in the OASIS images; the signs are those of the
visual scales for medial temporal atrophy (Scheltens et al. 1992) and global cortical atrophy (Pasquier et al. 1996).
"""

import numpy as np

from kd.datasets.base import DatasetInfo
from kd.datasets.phantoms import drawing as d
from kd.datasets.phantoms.anatomy import Anatomy, Brain, draw_brain
from kd.datasets.phantoms.base import CAVEATS, LICENCE, Drawing, Phantom, Subject, register

CLASSES = ("NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented")
VIEWS = 4
PATIENT, FOLDS, SLICE, SCANNER, NOISE, LOSS = range(6)


def draw(subject: Subject) -> Drawing:
    """One slice. The mask holds ventricles, furrows and hippocampi of a brain that has lost tissue."""
    work = d.working_size(subject.size)
    brain = _brain(subject, work)
    image = _scan(subject, d.shrink(brain.image, subject.size))
    if subject.label == 0 or not subject.evidence:
        return Drawing(image, np.zeros((subject.size, subject.size), np.uint8))
    region = np.maximum(np.maximum(brain.furrows * d.cover(brain.outline), brain.ventricles), brain.hippocampi)
    # The grey ribbon moves with its furrow, so the evidence reaches a little beyond the fluid.
    spread = d.blur(region, 40) * np.float32(1.5)
    return Drawing(image, d.to_mask(d.shrink(np.maximum(region, spread), subject.size)))


def atrophy(subject: Subject) -> float:
    """Loss of tissue of this patient, about 0 (none) .. 1.2; the grades overlap more the harder the set."""
    rng = subject.stream(LOSS)
    grade = (subject.label if subject.evidence else 0) / 3
    return max(0.0, grade + float(np.clip(rng.normal(), -2, 2)) * subject.between(0.01, 0.12))


def _brain(subject: Subject, work: int) -> Brain:
    """The patient's anatomy at this slice; slices of one patient share everything but depth and a little pose."""
    patient, own = subject.stream(PATIENT), subject.stream(SLICE, subject.view)
    loss = atrophy(subject)
    vary = subject.between(0.01, 0.10)
    ventricles, sulci, hippocampus = 1 + vary * np.clip(patient.normal(size=3), -2, 2)
    depth = (subject.view - (VIEWS - 1) / 2) / VIEWS * 1.2 + own.uniform(-0.12, 0.12)
    contrast, murk = patient.uniform(-1, 1, size=2) * subject.between(0.5, 1.5)
    anatomy = Anatomy(ventricles=ventricles * (0.72 + 1.38 * loss), sulci=sulci * (0.35 + 2.25 * loss),
                      hippocampus=max(0.3, hippocampus * (1.04 - 0.62 * loss)), depth=depth,
                      white=0.80 + 0.04 * contrast, grey=0.53 - 0.05 * contrast, fluid=0.13 + 0.05 * murk,
                      folds=int(patient.integers(22, 28)))
    turn = subject.between(0.04, 0.12)
    x, y = d.posed(work, patient.normal() * turn + own.normal() * 0.02,
                   (float(np.clip(patient.normal(), -2, 2)) * turn * 0.5, 0.10 + float(patient.normal()) * turn * 0.3),
                   (1.30 + float(np.clip(patient.normal(), -2, 2)) * turn * 0.5) * (1 - 0.05 * depth**2))
    return draw_brain(subject.stream(FOLDS), x, y, anatomy)


def _scan(subject: Subject, image: d.Field) -> np.ndarray:
    """The scanner's share: gain, bias, noise."""
    rng = subject.stream(SCANNER, subject.view)
    bias = d.bias_field(subject.stream(SCANNER), subject.size, subject.between(0.02, 0.14))
    gain = 1 + subject.between(0.04, 0.24) * rng.uniform(-1, 1)
    image = np.clip(image, 0, None)**np.float32(1 + 0.15 * rng.uniform(-1, 1)) * bias * np.float32(gain)
    noise = subject.stream(NOISE, subject.view)
    return d.to_pixels(d.rician(noise, image, subject.between(0.012, 0.05)))


register(Phantom(
    "phantom-dementia",
    DatasetInfo("Dementia MRI (drawn phantom, not patients)", "coronal brain slices drawn by KD Lens", LICENCE,
          (*CAVEATS, f"{VIEWS} slices per drawn patient; splits never share a patient.")),
    CLASSES, "NonDemented", draw, VIEWS))
