"""Small DICOM and NIfTI files for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def dicom(values: np.ndarray, frames: int = 1, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """A DICOM file of stored values [H, W], [N, H, W] with frames, or RGB [H, W, 3]; a tag of None is left out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    colour = values.ndim == 3 and frames == 1
    shape = values.shape[1:3] if frames > 1 else values.shape[:2]
    bits = 8 * values.dtype.itemsize
    facts = {"PatientID": "p", "PatientName": "Doe^Jane", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4",
             "Modality": "CT", "InstanceNumber": 1, "Rows": shape[0], "Columns": shape[1], "BitsAllocated": bits,
             "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(values.dtype.kind == "i"),
             "SamplesPerPixel": 3 if colour else 1, "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
             **({"PlanarConfiguration": 0} if colour else {}), **({"NumberOfFrames": frames} if frames > 1 else {}),
             "PixelData": values.tobytes() + b"\0" * (values.nbytes % 2), **tags}
    for name, value in facts.items():
        if value is not None:
            setattr(data, name, value)
    return data


def save(data: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def dicom_set(root: Path, patients: int = 4, slices: int = 3, side: int = 16, compress: str = "") -> Path:
    """Class folders `cancer` and `normal` of patients' folders, named after them, with slices in reverse order."""
    noise = np.random.default_rng(0)
    for label in ("cancer", "normal"):
        for patient in range(patients):
            series = generate_uid()
            for number in range(slices):
                values = noise.integers(0, 4096, (side, side)).astype(np.uint16)
                data = dicom(values, BitsStored=12, HighBit=11, PatientID=f" DOE{label}{patient}",
                             PatientName=f"Doe^{label}{patient}", SeriesInstanceUID=series, StudyInstanceUID=series,
                             InstanceNumber=slices - number, ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                             ImagePositionPatient=[0, 0, float(number)], RescaleSlope=1, RescaleIntercept=-1024,
                             InstitutionName="St. Elsewhere", PatientBirthDate="19700101")
                if compress:
                    data.compress(compress)
                save(data, root / label / f"DOE_{label}_{patient}" / f"{number}.dcm")
    return root


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None, **header: Any) -> Path:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


FACTS = {"StudyInstanceUID": "1.2.3", "PatientBirthDate": "19700101", "PatientSex": "F", "StudyDate": "20200102",
         "StudyTime": "101112", "AccessionNumber": "A17", "StudyID": "S1", "ReferringPhysicianName": "House^G",
         "InstitutionName": "St. Elsewhere", "OperatorsName": "Roe^R", "PatientComments": "Doe",
         "SeriesDescription": "Doe"}


def placed(values: np.ndarray, kind: str = CTImageStorage, **tags: Any) -> Dataset:
    """A slice with a place in its patient, names in many tags, private ones too."""
    data = dicom(values, **{
        **FACTS, "SOPClassUID": kind, "FrameOfReferenceUID": "1.2.3.5", "ImagePositionPatient": [-100.5, 20.25, 3.0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.7, 0.7], "SliceThickness": 5.0, **tags})
    data.file_meta.MediaStorageSOPClassUID = kind
    data.private_block(0x0011, "ACME Doe", create=True).add_new(1, "LO", "Doe")
    return data


def placed_frames(values: np.ndarray, kind: str, **tags: Any) -> Dataset:
    """An enhanced file [N, H, W], every frame with a place of its own, 5 mm from the next."""
    def group(**items: dict[str, Any]) -> Dataset:
        made = Dataset()
        for sequence, attributes in items.items():
            item = Dataset()
            for name, value in attributes.items():
                setattr(item, name, value)
            setattr(made, sequence, [item])
        return made

    shared = group(PixelMeasuresSequence={"PixelSpacing": [0.7, 0.7], "SliceThickness": 5.0},
                   PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})
    each = [group(PlanePositionSequence={"ImagePositionPatient": [0, 0, 5.0 * number]},
                  PixelValueTransformationSequence={"RescaleSlope": 1 + number, "RescaleIntercept": -10})
            for number in range(len(values))]
    return placed(values, kind, frames=len(values), ImagePositionPatient=None, ImageOrientationPatient=None,
                  PixelSpacing=None, SliceThickness=None, SharedFunctionalGroupsSequence=[shared],
                  PerFrameFunctionalGroupsSequence=each, **tags)
