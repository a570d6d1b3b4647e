#!/usr/bin/env bash
# SimpleITK 2.5.7: 16-bit RGB images in DICOM's RLE compression are read in other colours, without an error.
#
# RLE stores such an image as six planes of bytes: the high and the low bytes of red, then those of green and of blue
# (PS3.5, annex G). GDCM, by which SimpleITK reads DICOM, pairs the first three planes with the last three as if they
# were the high and low bytes of a single channel, and then orders the result by channels a byte at a time. Pure red
# becomes a green, in every pixel. RLE images may be RGB of 8 or 16 bits (PS3.5, table 8.2.2-1). 8-bit RGB and 16-bit
# grey need only one of the two steps and are right. RGB of 32 bits, which that table does not have, is mixed up too.
#
# Expected: what pydicom reads from the file, and both libraries from the same image without compression.
# Seen: (65535, 0, 0) is read as (0, 65280, 255), and (0x0102, 0x0304, 0x0506) as (0x0504, 0x0106, 0x0302).
# Source: `ImageCodec::DecodeByStreams` in gdcmImageCodec.cxx: `DoPaddedCompositePixelCode` on the whole frame, and
# `DoPlanarConfiguration` after it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
         "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "PatientOrientation")


def image(pixels):
    """A Secondary Capture image of unsigned pixels, (rows, columns, 3) for RGB or (rows, columns) for grey."""
    colour, bits = pixels.ndim == 3, pixels.dtype.itemsize * 8
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = (generate_uid() for _ in range(3))
    for keyword in EMPTY:
        setattr(data, keyword, "")
    data.Modality, data.ConversionType = "OT", "SYN"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
    data.add_new("PixelData", "OW", pixels.tobytes())
    return data


def read(pixels, compressed):
    """What pydicom and SimpleITK read from the image's file."""
    data = image(pixels)
    if compressed:
        data.compress(RLELossless, encoding_plugin="pydicom")
    data.save_as("image.dcm", enforce_file_format=True)
    return dcmread("image.dcm").pixel_array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("image.dcm"))[0]


colours = np.zeros((16, 16, 3), np.uint16)
colours[0] = 65535, 0, 0
colours[1] = 0x0102, 0x0304, 0x0506
cases = {"16-bit RGB": colours, "8-bit RGB": colours.astype(np.uint8), "16-bit grey": colours[..., 0]}
right = {}
for name, pixels in cases.items():
    for compressed in (False, True):
        kind = f"{name}, {'RLE' if compressed else 'not compressed'}"
        by_pydicom, by_itk = read(pixels, compressed)
        right[kind] = np.array_equal(by_pydicom, pixels), np.array_equal(by_itk, pixels)
        print(f"{kind}: rows 0 and 1 by pydicom {by_pydicom[:2, 0].tolist()}, by SimpleITK {by_itk[:2, 0].tolist()}")
expected = {kind: (True, kind != "16-bit RGB, RLE") for kind in right}
sys.exit(0 if right == expected else "The behaviour has changed.")
PY
