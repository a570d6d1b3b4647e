"""A heat map as a secondary capture: colours over the image, with a caption, for images without a frame of reference.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kd.datasets.importing.dicom_image import DicomImage
from kd.export.dicom.labels import NOTICE, SERIES, MapLabels, fit
from kd.export.dicom.reference import CHARACTERS, reference, say_whose
from kd.inspection.figure import COLORMAP
from kd.inspection.overlay import SIGNED, overlay
from kd.version import VERSION

if TYPE_CHECKING:
    from pydicom import Dataset

LEAST, MOST = 512, 1024  # pixels of the longer side: a caption must fit, and a radiograph's 3,000 are not needed
TEXT, LINE = 14, 20  # pixels


def capture(image: DicomImage, heat: NDArray[np.float32], labels: MapLabels, series: str, number: int,
            keep_patient: bool) -> "Dataset":
    """The secondary capture of one map [H, W] in 0..1 on the image's pixels. number: in the series, from 1."""
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    source = reference(image)
    found = hd.sc.SCImage(
        captioned(image.pixels, heat, labels), "RGB", 8, "PATIENT", source.StudyInstanceUID, series, SERIES, hd.UID(),
        number, "KD Lens", patient_orientation=("L", "P"), transfer_syntax_uid=ExplicitVRLittleEndian,
        manufacturer_model_name="KD Lens", software_versions=VERSION, device_serial_number=fit(labels.run),
        series_description=fit(f"Heat maps. {NOTICE}"), specific_character_set=CHARACTERS)
    say_whose(found, image, keep_patient)
    side = str(image.header.get("Laterality") or image.header.get("ImageLaterality"))
    unknown_as_empty: dict[str, str] = {"PatientOrientation": "", "Laterality": side if side in ("L", "R") else ""}
    for name, value in unknown_as_empty.items():
        setattr(found, name, value)
    found.ConversionType = "WSD"
    found.ImageComments = fit(f"{labels.text} {NOTICE}", 1023, NOTICE)
    found.DerivationDescription = fit(f"{labels.title}. {NOTICE}", 1023, NOTICE)
    found.SourceImageSequence = [_referenced(source, image)]
    if (burnt := str(image.header.get("BurnedInAnnotation", ""))) in ("YES", "NO"):
        found.BurnedInAnnotation = burnt
    return found


def _referenced(source: "Dataset", image: DicomImage) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if image.frames > 1:
        item.ReferencedFrameNumber = image.frame
    return item


def captioned(pixels: NDArray[np.uint8], heat: NDArray[np.float32], labels: MapLabels) -> NDArray[np.uint8]:
    """The image under its map, RGB [H, W, 3], and below it the caption on black."""
    small = Image.fromarray(pixels).convert("RGB")
    longest = max(small.size)
    scale = min(MOST, max(LEAST, longest)) / longest
    size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
    under = np.asarray(small.resize(size, Image.Resampling.BICUBIC))
    painted = overlay(under, heat, colormap=SIGNED if labels.signed else COLORMAP)
    width = max(size[0], LEAST)
    lines = [_cut(line, width - TEXT) for line in (NOTICE.upper(), fit(labels.title, 200), f"run {labels.run}")]
    sheet = Image.new("RGB", (width, size[1] + LINE * len(lines) + TEXT // 2))
    sheet.paste(Image.fromarray(painted), (0, 0))
    pen = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        pen.text((TEXT // 2, size[1] + TEXT // 4 + LINE * row), line, fill="white", font=_font())
    return np.asarray(sheet)


def _cut(line: str, width: int) -> str:
    """The line without what does not fit into this many pixels."""
    while _font().getlength(line) > width:
        line = f"{line[:-2].rstrip()}…"
    return line


@cache
def _font() -> ImageFont.FreeTypeFont:
    """matplotlib's own, which has more alphabets than Pillow's."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", TEXT)
