"""Limits on what a file may ask for before it is decoded or unpacked: one object for every format."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on memory and disk that hold for images, archives, arrays, DICOM and NIfTI alike.

    pixels: of one image or frame, 240 MB as RGB; one beyond it is a bomb or needs tiling first. voxels: of one volume,
    1 GB as 16-bit numbers. file: bytes of one unpacked file. entries: files in one archive or folder tree. depth:
    folders inside of folders. seconds: for listing a folder tree. ratio: an archive may unpack to so many times its
    size beyond `free` bytes; images hardly shrink, so a hundredfold is a bomb. header: bytes of a header that is not
    pixels. table, rows: bytes and lines of a label table. frames: of one file. array: bytes of an array that is read at
    once.
    """

    pixels: int = 80_000_000
    voxels: int = 2**29
    file: int = 256 * 2**20
    entries: int = 1_000_000
    depth: int = 64
    seconds: float = 120.0
    ratio: int = 100
    free: int = 2**30
    header: int = 64 * 2**20
    table: int = 256 * 2**20
    rows: int = 5_000_000
    frames: int = 100_000
    array: int = 2**31


LIMITS = Limits()
