"""Patients in the names of files."""

import pytest

from kd.datasets.image_folder.patients import patients_in_names


@pytest.mark.parametrize(("files", "patients"), [
    (("train/mildDem_subj002_slice01.jpg", "train/mildDem_subj002_slice02.jpg", "test/mildDem_subj003_slice01.jpg"),
     ("mildDem_subj002", "mildDem_subj002", "mildDem_subj003")),
    (("person1_bacteria_1.jpeg", "person1_virus_6.jpeg", "person10_virus_35.jpeg"), ("person1", "person1", "person10")),
    (("2181_left.jpg", "2181_right.jpg", "77_left.jpg", "Glaucoma_008.jpg"), ("2181", "2181", "77", None)),
    (("00000013_004.png", "00000013_005.png", "00000014_000.png"), ("00000013", "00000013", "00000014")),
    (("Mass_P_00001_LEFT_CC.png", "Mass_P_00001_LEFT_MLO.png", "Mass_P_00004_LEFT_CC.png"),
     ("Mass_P_00001", "Mass_P_00001", "Mass_P_00004")),
    (("sub-01_T1w.png", "sub-01_T2w.png", "sub-02_T1w.png"), ("sub-01", "sub-01", "sub-02"))])
def test_names_of_public_sets_give_their_patients(files: tuple[str, ...], patients: tuple[str | None, ...]) -> None:
    assert patients_in_names(files) == list(patients)


@pytest.mark.parametrize("files", [
    ("benign_288.jpg", "benign_289.jpg", "malignant_2.jpg"), ("Tr-pi_1335.jpg", "Tr-gl_0079.jpg", "Tr-me_1269.jpg"),
    ("case1.png", "case2.png", "case3.png"),  # an image each
    ("person1_1.png", "person1_2.png", "a.png", "b.png", "c.png"),  # a few only
    ("person1_1.png", "person1_2.png"),  # one patient
    ("train-0", "train-1", "test-0"), ("step1_2.png", "step1_3.png", "step2_1.png")])
def test_names_that_number_images_give_none(files: tuple[str, ...]) -> None:
    assert patients_in_names(files) is None
