"""DICOM files parsed, deflated ones within a bound."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.datasets.decode import UnreadableImage
from kd.datasets.limits import LIMITS

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED = "1.2.840.10008.1.2.1.99"


def read_dataset(source: bytes | Path, header_only: bool = False,
                 tags: list[Any] | None = None) -> tuple["Dataset", int]:
    """A DICOM file parsed, and its bytes; a deflated one is inflated up to a bound first. Raises UnreadableImage."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        file: BytesIO | Path = BytesIO(source) if isinstance(source, bytes) else source
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if _syntax_of(source) == DEFLATED:
            file = _inflated(source)
            size = file.getbuffer().nbytes
        return dcmread(file, stop_before_pixels=header_only, specific_tags=tags), size
    except UnreadableImage:
        raise
    except InvalidDicomError as error:
        raise UnreadableImage("it is not a DICOM file") from error
    except Exception as error:  # broken bytes make the parser raise anything at all
        raise UnreadableImage(f"its header is damaged ({error or type(error).__name__})") from error


def _syntax_of(source: bytes | Path) -> str:
    from pydicom.filereader import read_file_meta_info
    from pydicom.filereader import read_preamble as skip

    if isinstance(source, Path):
        return str(getattr(read_file_meta_info(source), "TransferSyntaxUID", ""))
    from pydicom.filereader import _read_file_meta_info

    file = BytesIO(source)
    skip(file, force=False)
    return str(getattr(_read_file_meta_info(file), "TransferSyntaxUID", ""))


def _inflated(source: bytes | Path) -> BytesIO:
    """The same file not deflated, of bounded size: a small deflated file can unpack to gigabytes."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    file = BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    read_preamble(file, force=False)
    _read_file_meta_info(file)
    start = file.tell()
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(file.getvalue()[start:], LIMITS.file)
    if unpacker.unconsumed_tail:
        raise UnreadableImage(f"it unpacks to more than {LIMITS.file // 2**20} MB: so do bombs")
    head = file.getvalue()[:start].replace(DEFLATED.encode(), b"1.2.840.10008.1.2.1\0\0\0")
    return BytesIO(head + content)
