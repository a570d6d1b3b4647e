"""Data sets given as arrays, from the caller's memory to the splits that a run trains on."""

import numpy as np
import pytest
import torch
from made_sets import colour
from PIL import Image

from kd.datasets import open_dataset
from kd.datasets.arrays import Arrays
from kd.errors import UsageError
from kd.paths import default_paths

SIDE = 12
NUMBERS = np.arange(40) % 2


def images(count=40, channels=(3,)):
    """Flat images, each of a brightness of its own."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, *[1] * len(channels)),
                           (count, SIDE, SIDE, *channels)).copy()


def opened(arrays, size=SIDE):
    return open_dataset(arrays.save(default_paths()), size)


def brightness(split):
    return split.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_images_and_labels_become_three_splits(channels):
    found = opened(Arrays(images(channels=channels), NUMBERS))
    assert found.classes == ("class 0", "class 1")
    assert [len(split) for split in found.splits.values()] == [26, 6, 8]
    assert sorted(number for split in found.splits.values() for number in brightness(split)) == list(range(40))
    for split in found.splits.values():
        assert split.labels.tolist() == [number % 2 for number in brightness(split)]


def test_classes_groups_and_split_are_kept():
    groups = [f"patient {number // 4}" for number in range(40)]
    part = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    found = opened(Arrays(images(), NUMBERS, groups=groups, classes=["healthy", "tumour"], split=part, name="scans"))
    assert found.classes == ("healthy", "tumour")
    assert found.name.startswith("scans-")
    for name, split in found.splits.items():
        assert brightness(split) == [number for number in range(40) if part[number] == name]
        assert split.groups == tuple(groups[number] for number in brightness(split))
    assert not found.report.warnings


def test_a_patient_is_never_cut_and_one_on_both_sides_is_warned_of():
    groups = np.repeat(np.arange(20), 2)
    found = opened(Arrays(images(), np.arange(40) // 20, groups=groups))
    sides = [set(split.groups) for split in found.splits.values()]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    mixed = Arrays(images(), np.arange(40) // 2 % 2, groups=groups, split=["train", "test"] * 20)
    assert any("patients have images in both train and test" in line for line in opened(mixed).report.warnings)


def test_labels_may_be_names():
    found = opened(Arrays(images(), np.array(["no", "yes"])[NUMBERS], split=["train", "train", "val", "val"] * 5
                          + ["test"] * 20))
    assert found.classes == ("no", "yes")
    assert found.test.labels.tolist() == [0, 1] * 10
    assert Arrays(images(), np.array(["b", "a"])[NUMBERS], classes=["b", "a"]).labels.tolist() == NUMBERS.tolist()


def test_the_same_arrays_are_one_file_and_others_another(own_root):
    one, again = Arrays(images(), NUMBERS), Arrays(images(), NUMBERS.tolist())
    paths = {one.save(default_paths()), again.save(default_paths())}
    assert len(paths) == 1
    brighter = images()
    brighter[0] += 1
    others = [Arrays(brighter, NUMBERS), Arrays(images(), 1 - NUMBERS), Arrays(images(), NUMBERS, classes=["a", "b"]),
              Arrays(images(), NUMBERS, groups=NUMBERS), Arrays(images(), NUMBERS, split=["train"] * 40)]
    assert len({*paths, *(each.save(default_paths()) for each in others)}) == 6
    assert sorted(path.suffix for path in (own_root / "data").iterdir()) == [".npz"] * 6


class OfPairs(torch.utils.data.Dataset):
    """As torchvision's: (image, class number), with names of the classes."""

    classes = ("cat", "dog")

    def __init__(self, make, count=40):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index), torch.tensor(index % 2)


MAKERS = {
    "PIL": lambda index: Image.new("RGB", (SIDE, SIDE), colour(index)),
    "array": lambda index: np.broadcast_to(np.array(colour(index), np.uint8), (SIDE, SIDE, 3)),
    "tensor in 0..1": lambda index: torch.tensor(colour(index)).view(3, 1, 1).expand(3, SIDE, SIDE) / 255,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_torch_data_set_is_read(kind):
    found = opened(Arrays.of(OfPairs(MAKERS[kind])))
    assert found.classes == ("cat", "dog")
    seen = {tuple(image[0, 0].tolist()): label for split in found.splits.values()
            for image, label in zip(split.images, split.labels.tolist(), strict=True)}
    assert seen == {colour(index): index % 2 for index in range(40)}


def test_a_grey_torch_image_is_the_same_grey_in_three_channels():
    found = Arrays.of(OfPairs(lambda index: torch.full((1, SIDE, SIDE), index / 255)))
    assert np.array_equal(found.images, images())


def test_splits_may_be_given_apart():
    found = opened(Arrays.of({"train": OfPairs(MAKERS["PIL"]), "test": OfPairs(MAKERS["array"], 10)}))
    assert [len(split) for split in found.splits.values()] == [34, 6, 10]
    pairs = Arrays.of({"train": (images(), NUMBERS), "val": (images(8), NUMBERS[:8]), "test": (images(6), NUMBERS[:6])})
    assert [len(split) for split in opened(pairs).splits.values()] == [40, 8, 6]


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: Arrays(images() / 255, NUMBERS), r"must be uint8.*astype"),
    (lambda: Arrays(images().transpose(0, 3, 1, 2), NUMBERS), r"Colours come last"),
    (lambda: Arrays(images(), NUMBERS[:3]), r"40 images but 3 labels"),
    (lambda: Arrays(images(), NUMBERS, groups=["a"]), r"40 images but 1 groups"),
    (lambda: Arrays(images(), NUMBERS * 2, classes=["a", "b"]), r"labels go from 0 to 2, but 2 classes"),
    (lambda: Arrays(images(), NUMBERS * 0.5), r"whole numbers or names"),
    (lambda: Arrays(images(), NUMBERS[:, None]), r"shape \(N,\)"),
    (lambda: Arrays(images(), ["yes"] * 40, classes=["ye", "no"]), r"Did you mean 'ye'"),
    (lambda: Arrays(images(), NUMBERS, split=["training"] * 40), r"Did you mean 'train'"),
    (lambda: Arrays.of(3), r"int is not a data set"),
    (lambda: Arrays.of({"test": (images(), NUMBERS)}), r"needs train"),
    (lambda: Arrays.of(OfPairs(lambda index: torch.full((3, 4, 4), -1.0))), r"0\.\.1.*Normalize"),
    (lambda: Arrays.of(OfPairs(lambda index: Image.new("L", (4 + index, 4)))), r"one size"),
])
def test_what_is_wrong_is_said_at_once(wrong, message):
    with pytest.raises(UsageError, match=message):
        wrong()


@pytest.mark.parametrize(("change", "message"), [
    ({"class_names": np.array(["only"])}, r"names the classes 0 to 0"),
    ({"class_names": np.array([1, 2])}, r"not texts"),
    ({"train_groups": np.array(["a"])}, r"train_groups must have one entry"),
    ({"test_groups": np.array(["a"] * 8)}, r"train_groups must have one entry"),
])
def test_a_file_whose_names_do_not_fit_is_refused(tmp_path, change, message):
    whole = {f"{part}_{what}": values for part in ("train", "test")
             for what, values in (("images", images(8)), ("labels", NUMBERS[:8]))}
    np.savez(tmp_path / "set.npz", **whole, **change)
    with pytest.raises(UsageError, match=message):
        open_dataset(str(tmp_path / "set.npz"), SIDE)
