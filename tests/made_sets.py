"""Small data sets on disk for tests: each image is a flat colour that tells which one it is."""

import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def colour(number: int) -> tuple[int, int, int]:
    """A colour of its own for each small number."""
    return 40 + 7 * number % 200, 30 + 53 * number % 220, 20 + 91 * number % 230


def make_image(path: Path, number: int = 0, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(number)).save(path)
    return path


def make_folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (12, 12)) -> Path:
    """`counts` maps folders below the root, such as train/a, to how many images go there."""
    number = 0
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            make_image(root / folder / f"p{index:03d}.png", number, size)
            number += 1
    return root


def make_mask(path: Path, size: tuple[int, int] = (12, 12), box: tuple[int, int, int, int] = (0, 0, 6, 6)) -> Path:
    """A mask that is white inside `box` (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(path)
    return path


def make_zip(path: Path, root: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, prefix + file.relative_to(root).as_posix())
    return path


def make_npz(path: Path, counts: dict[str, int], classes: int = 2, shape: tuple[int, ...] = (8, 8)) -> Path:
    """MedMNIST arrays: image i of each part is filled with the value i, labels take turns."""
    arrays = {}
    for part, count in counts.items():
        values = np.arange(count, dtype=np.uint8).reshape(-1, *([1] * len(shape)))
        arrays[f"{part}_images"] = np.broadcast_to(values, (count, *shape)).copy()
        arrays[f"{part}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def count_reads(monkeypatch: pytest.MonkeyPatch, root: Path) -> Counter[str]:
    """How often folders at or below `root` are listed, and files there asked for their size and times, from now on."""
    reads: Counter[str] = Counter()

    def counting(kind: str, function):
        def counted(path=".", *args, **options):
            if isinstance(path, str | Path) and str(path).startswith(str(root)):
                reads[kind] += 1
            return function(path, *args, **options)
        return counted

    monkeypatch.setattr(os, "scandir", counting("listings", os.scandir))
    monkeypatch.setattr(os, "stat", counting("stats", os.stat))
    return reads
