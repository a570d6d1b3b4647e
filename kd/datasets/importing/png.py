"""PNG files for what an import writes: lossless, and quick rather than small."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[Any]) -> bytes:
    """uint8 [H, W] or [H, W, 3] as a PNG file that is not compressed: a scan's noise hardly shrinks, packing it would
    take several times as long as all the rest of an import, and each later reading would unpack it again."""
    from imagecodecs import deflate_encode

    height, width = pixels.shape[:2]
    rows = bytearray(height * (1 + pixels[0].size))  # each begins with its filter: 0, none
    np.frombuffer(rows, np.uint8).reshape(height, -1)[:, 1:] = pixels.reshape(height, -1)
    colour = 2 if pixels.ndim == 3 else 0
    return b"".join((b"\x89PNG\r\n\x1a\n", *_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
                     *_chunk(b"IDAT", deflate_encode(rows, 0)), *_chunk(b"IEND", b"")))


def packed_png(pixels: NDArray[Any]) -> bytes:
    """uint8 [H, W], mostly of one value as masks are, as a PNG file of run lengths."""
    from imagecodecs import PNG, png_encode

    return bytes(png_encode(pixels, level=1, strategy=PNG.STRATEGY.RLE))


def _chunk(kind: bytes, content: bytes | bytearray) -> tuple[bytes | bytearray, ...]:
    return struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
