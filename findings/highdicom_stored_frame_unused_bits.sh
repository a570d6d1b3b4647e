#!/usr/bin/env bash
# highdicom 0.28.2: get_frame and get_stored_frame take all allocated bits for the value where fewer are stored.
#
# A DICOM image may store 12 bits in words of 16. The sign of a signed value is then bit 11, and readers may not assume
# anything about the unused bits, in particular neither that they are zero nor that they repeat the sign (PS3.5, section
# 8.1.1). The methods that decode one frame tell the decoder that 16 bits are stored. So negative values of a CT slice
# whose unused bits are zero become large positive ones, and an overlay embedded in bit 12 (a retired form, which files
# still have) becomes 4096 more. Once `pixel_array` was used, the same methods give the right values: they then take
# them from there.
#
# Expected: the values of `pixel_array`, of pydicom and of highdicom's own ImageFileReader.
# Seen: -32 is read as 4064; with an overlay, 0 is read as 4096.
# Source: `bits_stored=self.get('BitsAllocated', self.BitsAllocated)` in `get_stored_frame` of highdicom/image.py, and
# the same keyword in the frame transform behind `get_frame`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import highdicom
import numpy as np
from pydicom import dcmread, examples
from pydicom.uid import ExplicitVRLittleEndian


def write(values, overlay=None):
    """A CT slice of 12-bit values, signed if they are; the overlay lies in bit 12, all other unused bits are zero."""
    data = dcmread(examples.get_path("ct"))
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Rows, data.Columns = values.shape
    data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, int(values.min() < 0)
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue", "DataSetTrailingPadding"):
        if keyword in data:
            del data[keyword]
    words = values & 0x0FFF
    if overlay is not None:
        words |= overlay << 12
        rows, columns = values.shape
        for element, kind, value in ((0x0010, "US", rows), (0x0011, "US", columns), (0x0040, "CS", "G"),
                                     (0x0050, "SS", [1, 1]), (0x0100, "US", 16), (0x0102, "US", 12)):
            data.add_new((0x6000, element), kind, value)
    data.add_new("PixelData", "OW", words.astype("<u2").tobytes())
    data.save_as("image.dcm", enforce_file_format=True)


ramp = np.arange(64).reshape(8, 8)
cases = {"unsigned": (ramp, None), "signed": (ramp - 32, None), "unsigned with overlay": (ramp, np.eye(8, dtype=int))}
right = {}
for name, (values, overlay) in cases.items():
    write(values, overlay)
    image = highdicom.imread("image.dcm")
    read = {"get_frame": image.get_frame(1), "get_stored_frame": image.get_stored_frame(1),
            "pixel_array": image.pixel_array, "get_stored_frame after it": image.get_stored_frame(1),
            "pydicom": dcmread("image.dcm").pixel_array}
    with highdicom.io.ImageFileReader("image.dcm") as reader:
        read["ImageFileReader"] = reader.read_frame(0)
    right[name] = {way: np.array_equal(array, values) for way, array in read.items()}
    print(f"{name}: first value {values[0, 0]}, read as {({way: int(array[0, 0]) for way, array in read.items()})}")
wrong = {"get_frame", "get_stored_frame"}
expected = {name: {way: name == "unsigned" or way not in wrong for way in read} for name in cases}
sys.exit(0 if right == expected else "The behaviour has changed.")
PY
