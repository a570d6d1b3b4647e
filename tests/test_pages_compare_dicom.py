"""Maps as DICOM on the compare page: for an uploaded DICOM file, and said where only its pixels are kept."""

import io
from pathlib import Path

import numpy as np
import pytest
from made_scans import dicom, placed, save
from PIL import Image
from pydicom import Dataset
from pydicom.uid import ComputedRadiographyImageStorage
from streamlit.testing.v1 import AppTest
from test_pages_compare import page, trained, trio, upload
from test_pages_home import words

from kd.store.groups import Distillation
from pages.parts.compare import image_picker

__all__ = ["trained", "trio"]  # fixtures
RAMP = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
LABEL = "Maps (DICOM)"


def uploaded(trio: Distillation, data: Dataset, tmp_path: Path) -> AppTest:
    return upload(trio, save(data, tmp_path / "scan.dcm").read_bytes(), "scan.dcm")


def downloads(at: AppTest) -> list[str]:
    return [button.label for button in at.get("download_button")]


def test_an_uploaded_dicom_file_offers_its_maps(trio, tmp_path):
    at = uploaded(trio, placed(RAMP), tmp_path)
    assert not at.error and LABEL in downloads(at)
    assert "lays over the image" in words(at)


def test_frames_are_chosen_and_a_radiograph_is_captured(trio, tmp_path):
    at = uploaded(trio, dicom(np.stack([RAMP, RAMP[::-1]]), frames=2), tmp_path)
    assert not at.error and "Secondary captures" in words(at)
    at.number_input(key="compare_frame").set_value(2).run()
    assert not at.exception and not at.error and LABEL in downloads(at)


def test_burnt_in_names_need_the_toggle(trio, tmp_path):
    gone = dict.fromkeys(("FrameOfReferenceUID", "ImagePositionPatient"))
    at = uploaded(trio, placed(RAMP, ComputedRadiographyImageStorage, BurnedInAnnotation="YES", **gone), tmp_path)
    assert LABEL not in downloads(at) and "burnt into its pixels" in words(at)
    at.toggle(key="compare_dicom_patient").set_value(True).run()
    assert LABEL in downloads(at)


def test_other_images_offer_none_and_imported_ones_say_why(trio, monkeypatch):
    buffer = io.BytesIO()
    Image.new("L", (40, 40), 90).save(buffer, "PNG")
    at = upload(trio, buffer.getvalue())
    assert LABEL not in downloads(at) and LABEL not in [button.label for button in at.button]
    at = page(run=trio.student.id)
    assert LABEL not in [button.label for button in at.button]
    monkeypatch.setattr(image_picker, "window_of", lambda *_: "file")
    at = page(run=trio.student.id)
    button = next(button for button in at.button if button.label == LABEL)
    assert button.disabled and "keeps pixels alone" in words(at)


@pytest.mark.parametrize("content", [b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500])
def test_a_broken_dicom_file_is_refused_in_a_sentence(trio, content):
    at = upload(trio, content, "scan.dcm")
    assert "cannot be used" in at.error[0].value
