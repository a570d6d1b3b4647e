"""Fundus photographs: a retina with its vessel tree and optic disc, and one of three eye diseases or none.

In the eye's own coordinates the optic disc lies to the right of the macula; a left eye is the mirror image.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import DatasetInfo
from kd.datasets.phantoms import drawing as d
from kd.datasets.phantoms.base import CAVEATS, LICENCE, Drawing, Phantom, Subject, register

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
EYE, TREE, GROUND, LESIONS, SPECKS, CAMERA, NOISE = range(7)
Points = NDArray[np.float64]
Colour = tuple[float, float, float]
MACULA = (-0.14, 0.04)
BLOOD, VESSEL, EXUDATE, WOOL = (0.34, 0.05, 0.04), (0.43, 0.10, 0.06), (0.98, 0.85, 0.46), (0.93, 0.84, 0.66)


class Eye(NamedTuple):
    """One eye before the camera: where it lies in the image and what its optic disc is like."""

    mirror: float
    angle: float
    shift: tuple[float, float]
    scale: float
    disc: tuple[float, float]
    radius: float
    cup: float

    def fields(self, size: int) -> tuple[d.Field, d.Field]:
        """The eye's coordinates at each pixel."""
        x, y = d.posed(size, self.angle, self.shift, self.scale)
        return x * np.float32(self.mirror), y

    def place(self, points: Points) -> Points:
        """Points [N, 2] of the eye, in the image."""
        x, y = points[:, 0] * self.mirror, points[:, 1]
        c, s = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        return np.stack([c * x - s * y + self.shift[0], s * x + c * y + self.shift[1]], axis=1)


class Spots(NamedTuple):
    """Dots of one kind: points [N, 2] in the eye's coordinates, radii [N], strengths [N] and their colour."""

    points: Points
    radii: NDArray[np.float64]
    strengths: NDArray[np.float64]
    colour: Colour


def draw(subject: Subject) -> Drawing:
    """One eye. The mask: the lesions (diabetic retinopathy), the optic disc (glaucoma), the whole view (cataract)."""
    work = d.working_size(subject.size)
    disease = CLASSES[subject.label] if subject.evidence else "normal"
    eye = _eye(subject, disease)
    image = _retina(subject, eye, work)
    evidence = np.zeros((work, work), np.float32)
    for spots in _specks(subject):
        _tint(image, spots.colour, d.stamp(work, eye.place(spots.points), spots.radii, spots.strengths))
    if disease == "diabetic_retinopathy":
        for spots in _lesions(subject, eye):
            places = eye.place(spots.points)
            _tint(image, spots.colour, d.stamp(work, places, spots.radii, spots.strengths))
            np.maximum(evidence, d.stamp(work, places, spots.radii + 0.014, np.ones(len(places))), out=evidence)
    if disease == "glaucoma":
        evidence = d.cover(_disc(eye, work))
    image = _haze(subject, image, disease)
    view = _view(subject, work)
    evidence = view if disease == "cataract" else evidence * view
    return Drawing(_photograph(subject, d.shrink(image * view[:, :, None], subject.size)),
                   d.to_mask(d.shrink(evidence, subject.size)))


def _eye(subject: Subject, disease: str) -> Eye:
    rng = subject.stream(EYE)
    turn = subject.between(0.04, 0.14)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    tilt, right, down, zoom, disc_x, disc_y, radius, cup = np.clip(rng.normal(size=8), -2, 2)
    # Cup to disc ratio: about 0.35 in health, above 0.6 in glaucoma; the two meet when the set is hard.
    mean = subject.between(0.78, 0.62) if disease == "glaucoma" else subject.between(0.32, 0.40)
    return Eye(mirror, tilt * turn, (right * turn * 0.5, down * turn * 0.5), 1.02 + zoom * turn * 0.4,
               (0.44 + 0.04 * disc_x, 0.05 * disc_y), 0.170 + 0.016 * radius, mean + cup * subject.between(0.02, 0.07))


def _retina(subject: Subject, eye: Eye, work: int) -> d.Field:
    """Ground, macula, optic disc and vessels, RGB [W, W, 3]."""
    rng = subject.stream(GROUND)
    x, y = eye.fields(work)
    pigment, warm = np.clip(rng.normal(size=2), -2, 2)
    base = np.array((0.80 - 0.04 * pigment, 0.40 - 0.05 * pigment + 0.03 * warm, 0.19 - 0.03 * pigment - 0.025 * warm),
                    np.float32)
    shade = 1 + np.float32(0.035) * d.smooth_noise(rng, 5, work) + np.float32(0.02) * d.smooth_noise(rng, 22, work)
    image = shade[:, :, None] * base
    spot = np.exp(-((x - MACULA[0])**2 + (y - MACULA[1])**2) * np.float32(1 / 0.035))
    _tint(image, (0.45, 0.15, 0.07), spot * np.float32(0.55))
    glow = np.exp(-np.clip(_disc(eye, work), 0, None) * np.float32(9))
    _tint(image, (0.95, 0.58, 0.30), glow * np.float32(0.35))
    _tint(image, (0.96, 0.68, 0.40), d.cover(_disc(eye, work), 0.03))
    _tint(image, (1.00, 0.93, 0.72), d.cover(_cup(eye, work), 0.04))
    _tint(image, VESSEL, _vessels(subject.stream(TREE), eye, work))
    return image


def _disc(eye: Eye, work: int) -> d.Field:
    x, y = eye.fields(work)
    return d.ellipse(x, y, eye.disc, (0.92 * eye.radius, eye.radius))


def _cup(eye: Eye, work: int) -> d.Field:
    x, y = eye.fields(work)
    reach = eye.radius * float(np.clip(eye.cup, 0.15, 0.93))
    return d.ellipse(x, y, (eye.disc[0] - 0.1 * (eye.radius - reach), eye.disc[1]), (0.90 * reach, reach))


def _vessels(rng: np.random.Generator, eye: Eye, work: int) -> d.Field:
    """Cover of arteries (paler, thinner) and veins: arcades around the macula, nasal vessels, their branches."""
    trunks = np.array(eye.disc) + np.stack([_trunk(rng, end, bow) for end, bow in (
        ((-1.15, -0.50), 0.62), ((-1.05, -0.34), 0.50), ((-1.15, 0.52), 0.62), ((-1.05, 0.36), 0.50),
        ((0.45, -0.62), 0.05), ((0.50, 0.60), 0.05), ((0.20, -0.95), 0.10), ((0.20, 0.95), 0.10))])
    radii = np.array([0.0165, 0.012, 0.0165, 0.012, 0.010, 0.010, 0.012, 0.012]) * rng.uniform(0.85, 1.15)
    branches, branch_radii = _sprout(rng, trunks, radii, 5, 0.42)
    twigs, twig_radii = _sprout(rng, branches, branch_radii, 2, 0.20)
    tiers = ((trunks, radii, np.array([0.80, 0.56] * 4), 1.4),
             (branches, branch_radii, rng.uniform(0.45, 0.75, len(branches)), 0.5),
             (twigs, twig_radii, rng.uniform(0.35, 0.55, len(twigs)), 0.25))
    share = np.zeros((work, work), np.float32)
    for curves, thickness, strengths, length in tiers:  # tier by tier: thin dots are cheap on their own
        np.maximum(share, _trace(eye, curves, thickness, strengths, work, length), out=share)
    return share


def _trunk(rng: np.random.Generator, end: tuple[float, float], bow: float) -> Points:
    """Control points [4, 2] of one vessel that leaves the disc upwards or downwards and bends to `end`."""
    finish = np.array(end) + rng.normal(scale=0.07, size=2)
    up = np.sign(finish[1])
    rise = np.array((0.06, up * (bow * 0.75 + 0.1))) + rng.normal(scale=0.03, size=2)
    over = np.array((finish[0] * 0.55, up * (abs(finish[1]) * 0.9 + bow * 0.35))) + rng.normal(scale=0.05, size=2)
    return np.stack([rng.normal(scale=0.015, size=2), rise, over, finish])


def _bezier(curves: Points, t: NDArray[np.float64]) -> tuple[Points, Points]:
    """Points and tangents [N, M, 2] of cubic curves [N, 4, 2] at t [M] or [N, M]."""
    t = np.broadcast_to(t, (len(curves), t.shape[-1]))[..., None]
    a, b, c, e = (curves[:, None, k] for k in range(4))
    place = (1 - t)**3 * a + 3 * (1 - t)**2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * e
    tangent = (1 - t)**2 * (b - a) + 2 * (1 - t) * t * (c - b) + t**2 * (e - c)
    return place, tangent / np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-6)


def _sprout(rng: np.random.Generator, curves: Points, radii: NDArray[np.float64], count: int, length: float
            ) -> tuple[Points, NDArray[np.float64]]:
    """`count` side branches of each curve, to alternate sides, thinner towards the end."""
    t = (np.arange(count) + rng.uniform(0.2, 0.9, (len(curves), count))) / count * 0.85 + 0.08
    place, tangent = _bezier(curves, t)
    side = np.where(np.arange(count) % 2, 1.0, -1.0) * rng.choice((-1.0, 1.0), (len(curves), 1))
    turn = side * rng.uniform(0.45, 0.95, t.shape)
    cos, sin = np.cos(turn), np.sin(turn)
    out = np.stack([cos * tangent[..., 0] - sin * tangent[..., 1], sin * tangent[..., 0] + cos * tangent[..., 1]], -1)
    reach = length * rng.uniform(0.5, 1.2, (*t.shape, 1))
    wiggle = rng.normal(scale=0.12, size=(2, *t.shape, 2)) * reach
    ends = place + reach * (0.75 * out + 0.35 * tangent)
    branches = np.stack([place, place + 0.35 * reach * out + wiggle[0] * 0.5, place + 0.7 * reach * out + wiggle[1],
                         ends], axis=2)
    thin = radii[:, None] * (0.68 - 0.25 * t)
    return branches.reshape(-1, 4, 2), thin.ravel()


def _trace(eye: Eye, curves: Points, radii: NDArray[np.float64], strengths: NDArray[np.float64], work: int,
           length: float) -> d.Field:
    """Cover of tapering curves of about this length, as close rows of dots."""
    steps = max(8, round(length * work * 0.6))
    t = np.linspace(0, 1, steps)
    place, _ = _bezier(curves, t)
    taper = radii[:, None] * (1 - 0.5 * t)
    return d.stamp(work, eye.place(place.reshape(-1, 2)), taper.ravel(), np.repeat(strengths, steps))


def _lesions(subject: Subject, eye: Eye) -> list[Spots]:
    """Microaneurysms and blots of blood, hard exudates in clusters, soft cotton-wool spots."""
    rng = subject.stream(LESIONS)
    keen = subject.between(1.0, 0.75)
    dots = _somewhere(rng, eye, round(subject.between(34, 9) * rng.uniform(0.8, 1.2)))
    blots = _somewhere(rng, eye, round(subject.between(9, 2) * rng.uniform(0.8, 1.2)))
    centres = _somewhere(rng, eye, round(subject.between(5, 2) * rng.uniform(0.8, 1.2)))
    exudates = np.repeat(centres, 14, axis=0) + rng.normal(scale=0.042, size=(14 * len(centres), 2))
    wool = _somewhere(rng, eye, round(subject.between(3, 1)))
    return [_spots(rng, dots, (0.009, 0.016), keen, BLOOD), _spots(rng, blots, (0.018, 0.036), 0.85 * keen, BLOOD),
            _spots(rng, wool, (0.030, 0.050), 0.45 * keen, WOOL), _spots(rng, exudates, (0.006, 0.018), keen, EXUDATE)]


def _specks(subject: Subject) -> list[Spots]:
    """Harmless spots that any eye may have: dust on the lens, a few drusen."""
    rng = subject.stream(SPECKS)
    count = rng.poisson(subject.between(0.3, 5.0), size=2)
    places = [rng.uniform(-0.75, 0.75, size=(number, 2)) for number in count]
    return [_spots(rng, places[0], (0.008, 0.022), 0.5, VESSEL), _spots(rng, places[1], (0.008, 0.022), 0.4, WOOL)]


def _spots(rng: np.random.Generator, points: Points, radii: tuple[float, float], strength: float, colour: Colour
           ) -> Spots:
    return Spots(points, rng.uniform(*radii, len(points)), strength * rng.uniform(0.75, 1.0, len(points)), colour)


def _somewhere(rng: np.random.Generator, eye: Eye, count: int) -> Points:
    """Points around the macula, none on the optic disc."""
    reach, angle = 0.68 * np.sqrt(rng.uniform(0.02, 1, count)), rng.uniform(0, 2 * np.pi, count)
    points = np.array(MACULA) + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
    away = points - eye.disc
    near = np.linalg.norm(away, axis=1) < eye.radius + 0.08
    points[near, 0] -= 2.2 * eye.radius + 0.16
    return points


def _haze(subject: Subject, image: d.Field, disease: str) -> d.Field:
    """What a clouded lens does: details melt, and scattered light lies over the image in patches."""
    rng = subject.stream(CAMERA)
    own = rng.random()
    clear = subject.between(0.04, 0.38) * own
    strength = subject.between(0.68, 0.34) + subject.between(0.12, 0.28) * own if disease == "cataract" else clear
    patches = np.clip(1 + np.float32(0.22) * d.smooth_noise(rng, 3, image.shape[0]), 0.4, 1.4)
    veil = np.array((0.70, 0.49, 0.30), np.float32) + np.float32(0.05) * np.float32(np.clip(rng.normal(), -2, 2))
    soft = d.blur(image, 16)
    share = np.clip(patches * np.float32(strength), 0, 0.95)[:, :, None]
    melted = image + (soft - image) * np.minimum(share * np.float32(1.25), 0.96)
    return melted + (veil - melted) * share * np.float32(0.75)


def _view(subject: Subject, work: int) -> d.Field:
    """The camera's round field of view, cut off above and below by some cameras."""
    rng = subject.stream(CAMERA, 1)
    x, y = d.plane(work)
    centre = rng.normal(scale=0.012, size=2)
    field = d.ellipse(x, y, (centre[0], centre[1]), (rng.uniform(0.90, 0.97),) * 2)
    if rng.random() < 0.3:
        field = np.maximum(field, np.abs(y) - np.float32(rng.uniform(0.76, 0.86)))
    return d.cover(field)


def _photograph(subject: Subject, image: d.Field) -> NDArray[np.uint8]:
    """The camera's share: exposure, colour balance, contrast, fall-off to the rim, noise."""
    rng = subject.stream(CAMERA, 2)
    loose = subject.between(0.2, 0.9)
    x, y = d.plane(subject.size)
    off = rng.normal(scale=0.2 * loose, size=2)
    fall = 1 - np.float32(0.30 + 0.15 * loose * rng.uniform(-1, 1)) * ((x - off[0])**2 + (y - off[1])**2).clip(0, 1.6)
    balance = 1 + loose * rng.uniform(-1, 1, 3) * (0.06, 0.09, 0.16)
    gain = (0.98 + 0.26 * loose * rng.uniform(-1, 1)) * balance
    gamma = np.float32(1 + 0.28 * loose * rng.uniform(-1, 1))
    bias = d.bias_field(rng, subject.size, 0.05 * loose)
    lit = np.clip(image, 0, 1)**gamma * (fall * bias)[:, :, None] * gain.astype(np.float32)
    noise = subject.stream(NOISE).standard_normal(image.shape, dtype=np.float32)
    # A sensor's noise grows with the light: the black surround stays black.
    return d.to_pixels(lit + noise * np.float32(subject.between(0.010, 0.035)) * np.sqrt(lit.mean(2, keepdims=True)))


def _tint(image: d.Field, colour: Colour, share: d.Field) -> None:
    """Blend a colour into RGB [W, W, 3] in place."""
    image += (np.array(colour, np.float32) - image) * share[:, :, None]


register(Phantom(
    "phantom-fundus",
    DatasetInfo("Eye fundus (drawn phantom, not patients)", "fundus photographs drawn by KD Lens", LICENCE, CAVEATS),
    CLASSES, "normal", draw))
