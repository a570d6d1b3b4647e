"""A data set with planted faults, each of which an audit must find."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from scipy.ndimage import gaussian_filter

SIDE = 96


def texture(number: int, bright: int = 0) -> Image.Image:
    """A smooth random image like no other; `bright` brightens the middle at the same mean, as what a class looks
    like."""
    field = gaussian_filter(np.random.default_rng(number).normal(size=(SIDE, SIDE)), 2)
    levels = 70 + 30 * field / field.std()
    across = np.linspace(-1, 1, SIDE)
    middle = np.exp(-8 * (across[:, None] ** 2 + across[None] ** 2))
    levels += bright * (middle - middle.mean())
    return Image.fromarray(pixels(levels)).convert("RGB")


def pixels(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(levels, 0, 255).astype(np.uint8)


def make_clean(root: Path, train: int = 24, val: int = 10, test: int = 12) -> Path:
    """Two classes that the middle tells apart; no image twice."""
    number = 0
    for part, count in (("train", train), ("val", val), ("test", test)):
        for name, bright in (("ill", 90), ("well", 0)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                number += 1
                texture(number, bright).save(folder / f"{name}-{part}-{index:02d}.png")
    return root


def plant_copies(root: Path) -> None:
    """One training image again in the test as it is, one mirrored and compressed, one under the other label."""
    (root / "test/ill/again.png").write_bytes((root / "train/ill/ill-train-00.png").read_bytes())
    mirrored = ImageOps.mirror(Image.open(root / "train/well/well-train-01.png"))
    mirrored.save(root / "test/well/mirrored.jpg", quality=40)
    Image.open(root / "train/ill/ill-train-02.png").resize((70, 70)).save(root / "train/well/wrong.png")


def plant_bad_images(root: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(root / "train/ill/flat.png")
    few = np.random.default_rng(0).random((SIDE, SIDE)) < 0.2
    Image.fromarray(few.astype(np.uint8) * np.uint8(14)).save(root / "train/ill/dark.png")
    (root / "train/ill/broken.png").write_bytes(b"no image")


def plant_text(root: Path) -> None:
    """Words in white on the ill ones."""
    for path in sorted((root / "train/ill").glob("ill-*.png"))[8:20]:
        image = Image.open(path).convert("RGB")
        ImageDraw.Draw(image).rectangle((0, 78, 95, 95), fill=(20, 20, 20))
        ImageDraw.Draw(image).text((8, 80), "LEFT 1 2", fill="white")
        image.save(path)


def plant_named_patients(root: Path, shared: bool) -> None:
    """Names that carry patients of three images each, as `ill_subj004_slice02`; shared: of whom one of each class is in
    train and test."""
    for part in ("train", "val", "test"):
        for name in ("ill", "well"):
            for number, path in enumerate(sorted((root / part / name).iterdir())):
                patient = 100 * ("train", "val", "test").index(part) * (number >= 3 or not shared) + number // 3
                path.rename(path.with_name(f"{name}_subj{patient:03d}_slice{part[:2]}{number:02d}{path.suffix}"))


def plant_format(root: Path) -> None:
    """The ill come as coarse JPEG files, the well ones stay as they are."""
    for path in sorted(root.glob("*/ill/ill-*.png")):
        Image.open(path).convert("L").save(path.with_suffix(".jpg"), quality=30)
        path.unlink()


def plant_label(root: Path) -> None:
    (root / "train/ill/ill-train-05.png").rename(root / "train/well/moved.png")


def plant_patients(root: Path) -> None:
    """Two images a patient, one of whom is in train and test."""
    lines = ["file,group"]
    for path in sorted(root.glob("*/*/*.png")):
        part, name, file = path.relative_to(root).parts
        number = int(path.stem.rsplit("-", 1)[1])
        patient = "both" if number == 0 and name == "ill" and part != "val" else f"{part}-{name}-{number // 2}"
        lines.append(f"{part}/{name}/{file},{patient}")
    (root / "groups.csv").write_text("\n".join(lines))
