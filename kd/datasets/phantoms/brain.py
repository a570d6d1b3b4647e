"""Brain tumour MRI: a coronal head after contrast agent, with one of three tumours or none."""

from typing import NamedTuple

import numpy as np

from kd.datasets.base import DatasetInfo
from kd.datasets.phantoms import drawing as d
from kd.datasets.phantoms.anatomy import Anatomy, Brain, draw_brain
from kd.datasets.phantoms.base import CAVEATS, LICENCE, Drawing, Phantom, Subject, register

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HEAD, FOLDS, TISSUE, TUMOUR, DECOYS, SCANNER, NOISE = range(7)


class Tumour(NamedTuple):
    """value: brightness to blend in, share: how much of it, per pixel."""

    value: d.Field
    share: d.Field


def draw(subject: Subject) -> Drawing:
    """One head. The mask holds the tumour with its oedema."""
    work = d.working_size(subject.size)
    brain, image = _head(subject, work)
    _decoys(subject, brain, image)
    share = np.zeros_like(image)
    if subject.evidence and CLASSES[subject.label] in TUMOURS:
        value, share = TUMOURS[CLASSES[subject.label]](subject, brain)
        d.paint(image, value, share * np.float32(subject.between(1.0, 0.5)))
    return Drawing(_scan(subject, d.shrink(image, subject.size)), d.to_mask(d.shrink(share, subject.size)))


def _head(subject: Subject, work: int) -> tuple[Brain, d.Field]:
    """Brain, skull, scalp and neck of one patient."""
    rng = subject.stream(HEAD)
    turn = subject.between(0.03, 0.13)
    angle, right, down, size, ventricles, sulci, depth = np.clip(rng.normal(size=7), -2, 2)
    x, y = d.posed(work, angle * turn, (right * turn * 0.6, 0.10 + down * turn * 0.4), 1.13 + size * turn * 0.6)
    x = x * np.float32(1 + 0.04 * rng.uniform(-1, 1))
    dark, bright = rng.uniform(-1, 1, size=2)
    anatomy = Anatomy(ventricles=1 + 0.22 * ventricles, sulci=0.62 + 0.16 * sulci, hippocampus=1.0, depth=depth / 2,
                      white=0.50 + 0.04 * bright, grey=0.385 + 0.03 * dark, fluid=0.11, folds=int(rng.integers(20, 28)))
    brain = draw_brain(subject.stream(FOLDS), x, y, anatomy)
    image = _around(subject, x, y, brain)
    d.paint(image, brain.image, d.cover(brain.outline))
    return brain, image


def _around(subject: Subject, x: d.Field, y: d.Field, brain: Brain) -> d.Field:
    """Everything in the head that is not brain: fluid, bone, fat, muscle, the air of the sinus."""
    rng = subject.stream(TISSUE)
    size, side = x.shape[0], np.abs(x)
    vault = d.union(d.ellipse(side, y, (0.0, -0.14), (0.635, 0.535)), d.ellipse(side, y, (0.32, 0.18), (0.30, 0.235)),
                    0.08)
    jaw = np.maximum(side - np.float32(0.57 + 0.03 * rng.uniform(-1, 1)) + np.float32(0.16) * (y - 0.4),
                     np.float32(0.2) - y)
    head = d.union(d.ellipse(side, y, (0.0, -0.07), (0.745, 0.70)), jaw, 0.16)
    head = head + np.float32(0.008) * d.smooth_noise(rng, 6, size)
    image = _muscle(rng, x, y, side) * d.cover(head)
    fat = np.float32(0.72) + np.float32(0.06) * d.smooth_noise(rng, 8, size)
    thick = np.float32(0.016) + np.float32(0.02) * np.clip(y, 0, 1)
    d.paint(image, fat, d.cover(np.abs(head + np.float32(0.018) + thick) - thick, 0.02))
    lower = np.clip((y - 0.12) * 4, 0, 1)  # below the temples the base of the skull takes the place of the vault
    d.paint(image, 0.06, d.cover(vault - np.float32(0.042), 0.02) * (1 - np.float32(0.5) * lower))
    d.paint(image, 0.62, d.cover(np.abs(vault - np.float32(0.002)) - np.float32(0.003), 0.012) * np.float32(0.45))
    d.paint(image, 0.12, d.cover(vault + np.float32(0.006), 0.014))
    return image


def _muscle(rng: np.random.Generator, x: d.Field, y: d.Field, side: d.Field) -> d.Field:
    """The face below the brain: fatty planes, muscles, the rami of the jaw, and the airway with its bright lining."""
    size = x.shape[0]
    image = np.float32(0.42) + np.float32(0.10) * d.smooth_noise(rng, 12, size)
    for centre, radii, lean in (((0.20, 0.68), (0.075, 0.19), 0.35), ((0.50, 0.60), (0.055, 0.25), 0.05)):
        d.paint(image, 0.25, d.cover(d.ellipse(side, y, centre, radii, lean), 0.04))
    ramus = d.ellipse(side, y, (0.385, 0.72), (0.038, 0.20), 0.1)
    d.paint(image, 0.07, d.cover(ramus))
    d.paint(image, 0.55, d.cover(ramus + np.float32(0.018)))
    airway = d.irregular(rng, x, y, (0.02 * rng.normal(), 0.66), 0.085, 0.10)
    d.paint(image, 0.60, d.cover(airway - np.float32(0.024)))
    d.paint(image, 0.03, d.cover(airway))
    return image


def _decoys(subject: Subject, brain: Brain, image: d.Field) -> None:
    """What shines in every head: vessels, the falx, the healthy pituitary gland; and, when hard, harmless spots."""
    rng = subject.stream(DECOYS)
    x, y = brain.x, brain.y
    d.paint(image, 0.60, d.cover(d.segment(x, y, (0.0, -0.66), (0.0, -0.30)) - np.float32(0.003)) * np.float32(0.55))
    d.paint(image, 0.78, d.cover(d.ellipse(x, y, (0.0, -0.645), (0.035, 0.028)), 0.02))
    d.paint(image, 0.66, d.cover(d.ellipse(np.abs(x), y, (0.115, 0.435), (0.022, 0.030)), 0.02))
    d.paint(image, 0.55, d.cover(d.ellipse(x, y, (0.0, 0.425), (0.036, 0.024)), 0.02))
    for _ in range(rng.poisson(subject.between(0.4, 3.0))):
        angle, reach = rng.uniform(0, 6.3), rng.uniform(0.25, 0.95)
        centre = (0.55 * reach * float(np.cos(angle)), -0.12 + 0.45 * reach * float(np.sin(angle)))
        spot = d.irregular(rng, x, y, centre, rng.uniform(0.025, 0.055), 0.15)
        d.paint(image, float(rng.choice((0.20, 0.72))), d.cover(spot, 0.03) * np.float32(rng.uniform(0.4, 0.8)))


def _glioma(subject: Subject, brain: Brain) -> Tumour:
    """Irregular, in the white matter: dead core, ragged bright ring, dark oedema that follows no circle."""
    rng = subject.stream(TUMOUR)
    size = brain.x.shape[0]
    centre = (float(rng.choice((-1, 1)) * rng.uniform(0.17, 0.37)), float(rng.uniform(-0.36, 0.10)))
    radius = rng.uniform(subject.between(0.13, 0.085), subject.between(0.20, 0.17))
    shape = d.irregular(rng, brain.x, brain.y, centre, radius, 0.13)
    fingers = np.float32(0.055) * d.smooth_noise(rng, 9, size)
    oedema = d.cover(shape - np.float32(0.50 * radius) + fingers, 0.06) * np.float32(0.85)
    patchy = np.float32(0.80) + np.float32(0.13) * d.smooth_noise(rng, 10, size)
    wall = np.float32(0.15 * radius) * (1 + np.float32(0.4) * np.clip(d.smooth_noise(rng, 7, size), -1.5, 2))
    core = d.cover(shape + 2 * wall, 0.02)
    value = np.full_like(shape, 0.27)
    d.paint(value, patchy, d.cover(shape, 0.02))
    d.paint(value, 0.19 + 0.05 * float(rng.random()), core)
    return Tumour(value, np.maximum(oedema, d.cover(shape, 0.02)) * d.cover(brain.outline - np.float32(0.01)))


def _meningioma(subject: Subject, brain: Brain) -> Tumour:
    """Round and evenly bright, broad against the skull, with a tail along the dura."""
    rng = subject.stream(TUMOUR)
    angle = float(rng.uniform(-3.5, 0.36))  # anywhere over the convexity; 0 is the right-hand side, y points down
    radius = rng.uniform(subject.between(0.13, 0.075), subject.between(0.19, 0.15))
    reach = 1 - 0.55 * radius / 0.55
    centre = (0.60 * reach * float(np.cos(angle)), -0.14 + 0.50 * reach * float(np.sin(angle)))
    ball = d.irregular(rng, brain.x, brain.y, centre, radius, 0.04)
    beyond = d.ellipse(brain.x, brain.y, (0.0, -0.14), (0.63, 0.53))
    tail = np.maximum(np.abs(beyond + np.float32(0.018)) - np.float32(0.010), ball - np.float32(0.10))
    share = np.maximum(d.cover(np.maximum(ball, beyond), 0.02), np.float32(0.7) * d.cover(tail, 0.014))
    value = np.float32(0.80) + np.float32(0.025) * d.smooth_noise(rng, 12, ball.shape[0])
    return Tumour(value, share)


def _pituitary(subject: Subject, brain: Brain) -> Tumour:
    """Small and bright at the middle of the base, often with a waist where it grows out of its saddle."""
    rng = subject.stream(TUMOUR)
    radius = rng.uniform(subject.between(0.085, 0.055), subject.between(0.125, 0.10))
    centre = (0.02 * float(rng.normal()), 0.415 + 0.015 * float(rng.normal()))
    lower = d.irregular(rng, brain.x, brain.y, centre, radius, 0.06)
    top = (centre[0] + 0.02 * float(rng.normal()), centre[1] - radius * float(rng.uniform(0.6, 1.2)))
    upper = d.ellipse(brain.x, brain.y, top, (0.8 * radius, 0.7 * radius))
    value = np.float32(0.80) + np.float32(0.03) * d.smooth_noise(rng, 12, lower.shape[0])
    return Tumour(value, d.cover(d.union(lower, upper, 0.02), 0.02))


TUMOURS = {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _pituitary}


def _scan(subject: Subject, image: d.Field) -> np.ndarray:
    """The scanner's share: gain, contrast, bias, noise."""
    rng = subject.stream(SCANNER)
    gain = 1 + subject.between(0.05, 0.28) * rng.uniform(-1, 1)
    gamma = 1 + subject.between(0.05, 0.25) * rng.uniform(-1, 1)
    bias = d.bias_field(rng, subject.size, subject.between(0.03, 0.20))
    # Away from the coil the signal falls off: the neck fades out.
    fade = np.clip(np.float32(1.75) - d.plane(subject.size)[1], 0, 1)
    image = np.clip(image, 0, None)**np.float32(gamma) * bias * fade * np.float32(gain)
    return d.to_pixels(d.rician(subject.stream(NOISE), image, subject.between(0.012, 0.065)))


register(Phantom(
    "phantom-brain",
    DatasetInfo("Brain tumour MRI (drawn phantom, not patients)", "coronal heads drawn by KD Lens", LICENCE, CAVEATS),
    CLASSES, "notumor", draw))
