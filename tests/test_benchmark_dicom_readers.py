"""The table of DICOM readers: the files made for it are read as they are meant."""

from pathlib import Path

import numpy as np

from benchmarks.dicom_readers import RAMP, READERS, made, ours, row
from kd.datasets.importing import dicom_files


def test_the_made_files_are_read_as_they_are_meant(tmp_path: Path) -> None:
    found = {}
    with dicom_files.quiet():
        for path, frame in made(tmp_path):
            found[path.stem] = ours(path, frame)[0]
            assert row(path, frame).count("|") == 5 + len(READERS), "a line of the table"
    colour = np.stack([RAMP, RAMP[::-1], RAMP.T], -1) / 4095 * 255
    for name, values in found.items():
        wanted = {"made rescale by frame, 1 of 2": RAMP - 1024.0, "made rescale by frame, 2 of 2": 10.0 * RAMP - 1024,
                  }.get(name, colour if "colour" in name else RAMP)
        assert np.abs(values - wanted).max() <= (1 if "colour" in name else 0), name
