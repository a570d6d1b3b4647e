#!/usr/bin/env bash
# highdicom 0.28.2: a segmentation of one CT slice is given a distance of 1 mm to neighbours that it does not have.
#
# A slice of 5 mm that stands alone, without SpacingBetweenSlices (an optional attribute: the centre-to-centre distance
# of neighbouring slices, PS3.3, C.7.6.16.2.1), is segmented. The distance to neighbours is not known.
#
# Expected: the segmentation's pixel measures have the slice thickness and no SpacingBetweenSlices, as the source.
# Seen: SpacingBetweenSlices 1.0 beside SliceThickness 5.0, so a reader that goes by it takes the slices for overlapping.
# Source: for one plane `get_volume_positions` answers with its default spacing of 1.0, which the code that sets up the
# shared functional groups in highdicom/image.py writes wherever a spacing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, generate_uid


def slice_of(spacing):
    """A CT slice of 5 mm; spacing: its SpacingBetweenSlices, or None."""
    ct = Dataset()
    ct.SOPClassUID, ct.Modality, ct.Rows, ct.Columns = CTImageStorage, "CT", 8, 8
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ct, name, generate_uid())
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
                 "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"):
        setattr(ct, name, "")
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ct.PixelSpacing, ct.SliceThickness = [0.7, 0.7], 5
    if spacing is not None:
        ct.SpacingBetweenSlices = spacing
    return ct


def measures(spacing):
    algorithm = hd.AlgorithmIdentificationSequence("example", codes.DCM.ArtificialIntelligence, "1")
    segment = hd.seg.SegmentDescription(1, "part", codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC", algorithm)
    made = hd.seg.Segmentation([slice_of(spacing)], np.ones((1, 8, 8), bool), "BINARY", [segment], hd.UID(), 1, hd.UID(),
                               1, "maker", "model", "1", "1")
    return made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


found = {spacing: measures(spacing) for spacing in (None, 5.0)}
for spacing, one in found.items():
    print(f"source: thickness 5, spacing {spacing}; segmentation: thickness {one.SliceThickness}, spacing "
          f"{one.get('SpacingBetweenSlices')}")
seen = [one.get("SpacingBetweenSlices") for one in found.values()]
sys.exit(0 if seen[0] == 1.0 else "The behaviour has changed.")
PY
