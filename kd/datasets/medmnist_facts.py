"""The MedMNIST sets (Yang et al., Scientific Data 2023): classes, numbers of images, tasks, and how a file is known.

Label numbers and sizes as the authors publish them (medmnist/info.py, versions 2 and 3). The 3D organs are numbered
otherwise than the 2D ones.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MULTI_CLASS, MULTI_LABEL, ORDINAL = "one class", "several labels", "one grade"


@dataclass(frozen=True)
class MedMNIST:
    """One published set. sizes: images in train, val and test, one triple for each version. channels: 1 grey, 3 RGB.
    flip: whether a mirrored image is one of the same kind. volumes: whether it is 3D."""

    classes: tuple[str, ...]
    sizes: tuple[tuple[int, int, int], ...]
    channels: int = 1
    task: str = MULTI_CLASS
    flip: bool = True
    volumes: bool = False


_ORGANS = ("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
           "lung-right", "pancreas", "spleen")
_CHEST = ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
          "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia")
# The heart and the liver have a side, so a mirrored chest or belly is not an image of the same kind.
SETS: dict[str, MedMNIST] = {
    "pathmnist": MedMNIST(("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle",
                           "normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
                          ((89996, 10004, 7180),), 3),
    "chestmnist": MedMNIST(_CHEST, ((78468, 11219, 22433),), 1, MULTI_LABEL, flip=False),
    "dermamnist": MedMNIST(("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
                            "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi",
                            "vascular lesions"), ((7007, 1003, 2005),), 3),
    "octmnist": MedMNIST(("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
                         ((97477, 10832, 1000),)),
    "pneumoniamnist": MedMNIST(("normal", "pneumonia"), ((4708, 524, 624),), flip=False),
    "retinamnist": MedMNIST(("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"), ((1080, 120, 400),), 3, ORDINAL),
    "breastmnist": MedMNIST(("malignant", "normal or benign"), ((546, 78, 156),)),
    "bloodmnist": MedMNIST(("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte",
                            "monocyte", "neutrophil", "platelet"), ((11959, 1712, 3421),), 3),
    "tissuemnist": MedMNIST(("collecting duct, connecting tubule", "distal convoluted tubule",
                             "glomerular endothelial cells", "interstitial endothelial cells", "leukocytes",
                             "podocytes", "proximal tubule segments", "thick ascending limb"),
                            ((165466, 23640, 47280),)),
    "organamnist": MedMNIST(_ORGANS, ((34581, 6491, 17778), (34561, 6491, 17778)), flip=False),
    "organcmnist": MedMNIST(_ORGANS, ((13000, 2392, 8268), (12975, 2392, 8216)), flip=False),
    "organsmnist": MedMNIST(_ORGANS, ((13940, 2452, 8829), (13932, 2452, 8827)), flip=False),
    "organmnist3d": MedMNIST(("liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart",
                              "lung-right", "lung-left", "spleen", "pancreas"), ((972, 161, 610), (971, 161, 610)),
                             flip=False, volumes=True),
    "nodulemnist3d": MedMNIST(("benign", "malignant"), ((1158, 165, 310),), volumes=True),
    "adrenalmnist3d": MedMNIST(("normal", "hyperplasia"), ((1188, 98, 298),), volumes=True),
    "fracturemnist3d": MedMNIST(("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
                                ((1027, 103, 240),), volumes=True),
    "vesselmnist3d": MedMNIST(("vessel", "aneurysm"), ((1335, 192, 382), (1335, 191, 382)), volumes=True),
    "synapsemnist3d": MedMNIST(("inhibitory synapse", "excitatory synapse"), ((1230, 177, 352),), volumes=True),
}


def known_by_content(sizes: Mapping[str, int]) -> str:
    """The set that has these numbers of images in train, val and test, whatever its file is called; '' for none."""
    found = tuple(sizes.get(part, 0) for part in ("train", "val", "test"))
    return next((name for name, one in SETS.items() if found in one.sizes), "")


def known_by_name(stem: str) -> str:
    """The set that a file is named after: `my_pneumoniamnist`, `breastmnist_224`, `bloodmnist-1a2b`; '' for none."""
    low = stem.lower()
    return next((name for name in SETS if re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", low)), "")
