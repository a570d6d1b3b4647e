"""A coronal slice through a brain, as both MRI phantoms draw it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kd.datasets.phantoms.drawing import Field, cover, ellipse, paint, segment, smooth_noise, union


@dataclass(frozen=True)
class Anatomy:
    """The shape of one brain in one slice; 1 is a healthy adult.

    ventricles: their linear size. sulci: width of the furrows. hippocampus: its linear size. depth: where the slice
    lies, -1 (front) .. 1 (back). white, grey, fluid: brightness of the tissues, 0..1. folds: furrows around the brain.
    """

    ventricles: float = 1.0
    sulci: float = 1.0
    hippocampus: float = 1.0
    depth: float = 0.0
    white: float = 0.62
    grey: float = 0.46
    fluid: float = 0.13
    folds: int = 24


class Brain(NamedTuple):
    """image: brightness. outline: distance to the brain's surface. x, y: its own, slightly warped coordinates.

    furrows, ventricles, hippocampi: cover of each (the hippocampi with the fluid beside them).
    """

    image: Field
    outline: Field
    x: Field
    y: Field
    furrows: Field
    ventricles: Field
    hippocampi: Field


def draw_brain(rng: np.random.Generator, x: Field, y: Field, anatomy: Anatomy) -> Brain:
    """Draw the brain over a black ground in the coordinates x, y. The generator decides folding and warp only."""
    size = x.shape[0]
    x = x + np.float32(0.014) * smooth_noise(rng, 5, size)
    y = y + np.float32(0.014) * smooth_noise(rng, 5, size)
    side = np.abs(x)  # left and right are drawn together; the warp above makes them differ
    outline = _outline(side, y, anatomy) + np.float32(0.006) * smooth_noise(rng, 14, size)
    furrows, ribbon = _folding(rng, x, y, side, outline, anatomy)
    image = np.full_like(x, anatomy.white)
    image += np.float32(0.018) * smooth_noise(rng, 12, size)
    _deep_tissue(image, side, y, anatomy)
    paint(image, anatomy.grey, ribbon)
    hippocampi = _hippocampi(image, side, y, anatomy)
    ventricles = _ventricles(side, y, anatomy)
    paint(image, anatomy.fluid, np.maximum(furrows, ventricles))
    image *= cover(outline)
    return Brain(image, outline, x, y, furrows, ventricles, hippocampi)


def _outline(side: Field, y: Field, anatomy: Anatomy) -> Field:
    narrow = 1 - 0.06 * anatomy.depth**2
    cerebrum = ellipse(side, y, (0.0, -0.14), (0.60 * narrow, 0.50 * narrow))
    temporal = ellipse(side, y, (0.36, 0.19), (0.23, 0.19))
    stem = ellipse(side, y, (0.0, 0.26), (0.11, 0.20))
    return union(union(cerebrum, temporal, 0.06), stem, 0.05)


def _folding(rng: np.random.Generator, x: Field, y: Field, side: Field, outline: Field, anatomy: Anatomy
             ) -> tuple[Field, Field]:
    """Cover of the furrows and of the grey ribbon that lines them."""
    size = x.shape[0]
    length = np.maximum(np.float32(0.19) + np.float32(0.07) * smooth_noise(rng, 9, size), np.float32(0.06))
    beside = _to_furrow(rng, x, y, anatomy.folds)
    inward = -outline / length
    width = np.float32(0.0115 * anatomy.sulci) * np.clip(np.float32(1.2) - inward, 0, 1.2)
    # Furrows end where the white matter begins, and none runs over the brain stem.
    ended = np.clip(inward - 1, 0, 1) * np.float32(0.15)
    gap = beside - width + ended + np.float32(0.2) * cover(ellipse(side, y, (0.0, 0.27), (0.17, 0.22)), 0.1)
    fissure = np.minimum(_midline(side, y, anatomy), _sylvian(side, y, anatomy))
    furrows = cover(np.minimum(gap, fissure), 0.016)
    ribbon = cover(np.minimum(np.minimum(gap, fissure) - np.float32(0.034), -outline - np.float32(0.032)), 0.016)
    return furrows, ribbon


def _to_furrow(rng: np.random.Generator, x: Field, y: Field, folds: int) -> Field:
    """Distance to the nearest furrow: the zero lines of a wave around the head, broken up by noise so that they branch.

    Dividing by the slope makes a furrow equally wide wherever it runs.
    """
    size = x.shape[0]
    phase = np.float32(0.5 * folds) * np.arctan2(y + np.float32(0.1), x) + np.float32(1.1) * smooth_noise(rng, 7, size)
    radial = np.clip(np.float32(0.75) - y * np.float32(1.6), 0.15, 0.8)
    level = np.sin(phase) * radial + np.float32(0.52) * smooth_noise(rng, 15, size)
    down, across = np.gradient(level, np.float32(2 / size))
    return np.abs(level) / np.maximum(np.hypot(down, across), np.float32(5))


def _midline(side: Field, y: Field, anatomy: Anatomy) -> Field:
    return segment(side, y, (0.0, -0.8), (0.0, -0.27)) - np.float32(0.007 * anatomy.sulci)


def _sylvian(side: Field, y: Field, anatomy: Anatomy) -> Field:
    """The fissure above the temporal lobe, and the insula at its end."""
    arm = segment(side, y, (0.72, -0.03), (0.42, 0.055))
    insula = segment(side, y, (0.42, 0.055), (0.355, -0.05)) + np.float32(0.003)
    return np.minimum(arm, insula) - np.float32(0.004 + 0.007 * anatomy.sulci)


def _deep_tissue(image: Field, side: Field, y: Field, anatomy: Anatomy) -> None:
    """Thalamus and basal ganglia in grey."""
    deep = 0.4 * anatomy.white + 0.6 * anatomy.grey
    paint(image, deep, cover(ellipse(side, y, (0.095, 0.03), (0.075, 0.07)), 0.03))
    paint(image, deep, cover(ellipse(side, y, (0.255, -0.01), (0.045, 0.11), 0.25), 0.03))


def _ventricles(side: Field, y: Field, anatomy: Anatomy) -> Field:
    """The lateral pair like two wings, dented by the caudate nuclei, and the third as a slit between the thalami."""
    grow = anatomy.ventricles * (1 + 0.15 * anatomy.depth)
    wing = ellipse(side, y, (0.022 + 0.058 * grow, -0.155 + 0.005 * grow), (0.036 * grow, 0.092 * grow**0.75), 0.62)
    caudate = ellipse(side, y, (0.055 + 0.085 * grow, -0.105), (0.045, 0.065), 0.3)
    wing = np.maximum(wing, -caudate)
    slit = ellipse(side, y, (0.0, 0.055), (0.011 * grow, 0.075))
    return cover(np.minimum(wing, slit), 0.014)


def _hippocampi(image: Field, side: Field, y: Field, anatomy: Anatomy) -> Field:
    """Grey comma at the inner edge of each temporal lobe; what it loses, the horn beside it gains in fluid."""
    scale = anatomy.hippocampus
    pocket = ellipse(side, y, (0.255, 0.185), (0.092, 0.058), -0.3)
    body = ellipse(side, y, (0.245 - 0.03 * (1 - scale), 0.195 + 0.02 * (1 - scale)), (0.076 * scale, 0.042 * scale),
                   -0.3)
    horn = ellipse(side, y, (0.275, 0.175), (0.088 - 0.02 * scale, 0.050 - 0.006 * scale), -0.3)
    paint(image, anatomy.white, cover(pocket - 0.02, 0.02))
    paint(image, anatomy.fluid, cover(np.maximum(horn, -body), 0.014) * np.float32(min(1.0, 1.6 - scale)))
    paint(image, 0.9 * anatomy.grey, cover(body, 0.016))
    return cover(pocket)
