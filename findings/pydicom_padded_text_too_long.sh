#!/usr/bin/env bash
# pydicom 3.0.2: text of the greatest length that a value may have is found too long after it was written and read.
#
# A value of LO may have 64 characters, whatever bytes they take (PS3.5, section 6.2). In UTF-8, 63 letters of one byte
# and one of two are 65 bytes: an odd number, so a space is added, which is padding and no part of the value.
#
# Expected: it is written and read without a warning, as 64 characters that take an even number of bytes are.
# Seen: writing is silent; reading warns that the length (65) exceeds the maximum of 64, though the value that is
# returned has 64 characters. With reading_validation_mode RAISE, the same file cannot be read.
# Source: the length is checked on the decoded text before the padding is stripped.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys
import warnings
from io import BytesIO

from pydicom import Dataset, config, dcmread


def written_and_read(text):
    """What is read back, and the warnings of writing and of reading."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    file, caught = BytesIO(), []
    for step in ("writing", "reading"):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            if step == "writing":
                data.SeriesDescription = text
                data.save_as(file, implicit_vr=False, little_endian=True)
                file.seek(0)
            else:
                value = dcmread(file, force=True).SeriesDescription
        caught.append([str(one.message) for one in found])
    return value, *caught


odd, even = "ü" + "a" * 63, "üü" + "a" * 62
results = {}
for name, text in (("odd", odd), ("even", even)):
    value, writing, reading = written_and_read(text)
    print(f"{len(text)} characters, {len(text.encode())} bytes: read back equal {value == text}; writing warns "
          f"{writing}, reading warns {reading}")
    results[name] = (value == text, bool(writing), bool(reading))
sys.exit(0 if results == {"odd": (True, False, True), "even": (True, False, False)} else "The behaviour has changed.")
PY
