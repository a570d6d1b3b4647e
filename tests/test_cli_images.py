"""`--image` of a DICOM file, and its maps as DICOM, on the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import made_trio
from made_scans import dicom, placed, save
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage

from kd.__main__ import main
from kd.inspection import answer
from kd.paths import Paths
from kd.store.runs import Store

RAMP = np.arange(40 * 24, dtype=np.uint16).reshape(24, 40)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(Paths(tmp_path / "store"))
    made_trio(found)
    return found


def run(capsys: pytest.CaptureFixture[str], store: Store, *words: object) -> tuple[int, Any, str]:
    """Exit code, the JSON answer or None, and stderr."""
    code = main([*map(str, words), "--root", str(store.paths.root), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else None, err


def student_of(store: Store) -> str:
    return next(one.id for one in store if one.spec.teacher)


def image_of(folder: Path) -> np.ndarray:
    with np.load(folder / "maps.npz") as arrays:
        return np.array(arrays["image"])


@pytest.mark.parametrize("role", ["teacher", "control", "student"])
def test_explain_writes_its_map_as_dicom(capsys: pytest.CaptureFixture[str], store: Store, tmp_path: Path,
                                         role: str) -> None:
    named = {"student": student_of(store), "teacher": store[student_of(store)].spec.teacher}
    named["control"] = next(one.id for one in store if one.id not in named.values())
    scan = save(placed(RAMP), tmp_path / "scan.dcm")
    words = ["explain", named[role], "--image", scan, "--out", tmp_path / "out", "--dicom", tmp_path / "maps",
             "--explainer", "layer-cam", "--stage", 0]
    code, _, err = run(capsys, store, *words)
    assert code == 0 and "1 file in" in err, err
    [path] = (tmp_path / "maps").iterdir()
    assert path.name == "layer-cam_layer01.dcm"
    found = dcmread(path)
    assert (found.Modality, found.Rows, found.Columns) == ("SEG", 24, 40) and not found.PatientName
    code, _, err = run(capsys, store, *words)
    assert code == 2 and "Nothing is overwritten" in err


def test_compare_writes_every_model_and_keeps_the_patient_on_request(capsys: pytest.CaptureFixture[str], store: Store,
                                                                   tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    # The baseline would draw the data set, for seconds, and changes no map.
    monkeypatch.setattr(answer, "answered", lambda store, comparison, stage: comparison)
    gone = dict.fromkeys(("FrameOfReferenceUID", "ImagePositionPatient"))
    scan = save(placed(RAMP, ComputedRadiographyImageStorage, Modality="CR", **gone), tmp_path / "scan.dcm")
    code, _, err = run(capsys, store, "compare", student_of(store), "--image", scan, "--out", tmp_path / "out",
                       "--dicom", tmp_path / "maps", "--keep-patient")
    assert code == 0, err
    found = {path.stem: dcmread(path) for path in (tmp_path / "maps").iterdir()}
    assert {name.split("_")[0] for name in found} == {"teacher", "control", "student"}
    assert {"student_grad-cam_layer02", "student_stage-maps_layer01", "control_stage-maps_layer02"} <= set(found)
    assert {str(one.PatientName) for one in found.values()} == {"Doe^Jane"}
    assert {one.Modality for one in found.values()} == {"OT"}


def test_a_dicom_image_is_shown_as_its_data_set_was_imported(capsys: pytest.CaptureFixture[str], store: Store,
                                                           tmp_path: Path) -> None:
    """Frame and window by flags; without, the window that the run's set was imported with."""
    values = np.stack([np.full((24, 24), 100, np.uint16), RAMP[:, :24]])
    scan, out = save(dicom(values, frames=2), tmp_path / "scan.dcm"), tmp_path / "out"
    student = student_of(store)
    for flags in ([], ["--frame", 2], ["--frame", 2, "--window", "0,100000"]):
        code, _, err = run(capsys, store, "layers", student, "--image", scan, "--out", out, *flags)
        assert code == 0, err
        extent = int(image_of(out).max()) - int(image_of(out).min())
        assert (extent > 200) is (flags == ["--frame", 2]), flags
    folder = store.paths.data / store[student].spec.data
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(json.dumps({"history": [
        {"kind": "import", "source": "dicom", "window": "0,100000"}, {"kind": "repair"}]}))
    from kd.datasets.importing.dicom_image import window_of

    assert window_of(str(folder), store.paths) == "0,100000" and window_of("phantom-brain", store.paths) is None


@pytest.mark.parametrize(("flags", "message"), [
    (["--dicom", "maps"], "Give the DICOM file itself as --image"), (["--frame", "1"], "is no DICOM file"),
    (["--window", "lung"], "is no DICOM file"), (["--keep-patient"], "name their folder, --dicom DIR")])
def test_flags_of_dicom_with_another_image_are_refused(capsys: pytest.CaptureFixture[str], store: Store, tmp_path: Path,
                                                       flags: list[str], message: str) -> None:
    Image.new("L", (50, 40), 128).save(tmp_path / "scan.png")
    code, _, err = run(capsys, store, "explain", student_of(store), "--image", tmp_path / "scan.png", "--out",
                       tmp_path / "out", *[str(tmp_path / one) if one == "maps" else one for one in flags])
    assert code == 2 and message in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("flags", "message"), [
    (["--frame", "2"], "no frame 2, but 1"), (["--frame", "0"], "no frame 0"), (["--window", "x"], "is no window")])
def test_what_a_dicom_file_lacks_is_said(capsys: pytest.CaptureFixture[str], store: Store, tmp_path: Path,
                                         flags: list[str], message: str) -> None:
    scan = save(placed(RAMP), tmp_path / "scan.dcm")
    code, _, err = run(capsys, store, "explain", student_of(store), "--image", scan, "--out", tmp_path / "out", *flags)
    assert code == 2 and message in err


@pytest.mark.parametrize("content", [b"no DICOM", b"\0" * 128 + b"DICM", b"", None])
def test_a_broken_file_is_named(capsys: pytest.CaptureFixture[str], store: Store, tmp_path: Path,
                                content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "scan.dcm").write_bytes(content)
    code, _, err = run(capsys, store, "explain", student_of(store), "--image", tmp_path / "scan.dcm", "--out",
                       tmp_path / "out")
    assert code == 2 and "scan.dcm" in err
