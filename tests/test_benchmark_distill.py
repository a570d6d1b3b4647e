import numpy as np
import pytest
import torch

from benchmarks import distill, finish, ways
from benchmarks.distill import Found, Median, goal, main
from benchmarks.ways import BF16, CACHED, LAYOUT, PICTURES, Pair, Scene, ladder, named
from kd.torch_utils import compute

PAIR = Pair("test_resnet", 4, 32, 8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"), 40)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(distill, "SHORTEST", 0.01)
    monkeypatch.setattr(distill, "PAUSE", 0.0)


def test_it_measures_every_way_and_prints_the_protocol(capsys):
    results = main(["--teachers", "test_resnet", "--widths", "4", "--sizes", "32", "--batch", "8", "--rounds", "2",
                    "--workers", "0", "--threads", "1"])
    [(pair, found)] = results.items()
    assert pair == PAIR
    assert list(found.speeds) == [name for name in (named(0), PICTURES, LAYOUT, BF16, CACHED)
                                  if name != BF16 or compute.precision("auto", "cpu") == "bf16-mixed"]
    assert found.gains.keys() == found.speeds.keys()
    assert found.gains[named(0)] == Median(1, 1, 1)
    assert all(0 < one.low <= one.median <= one.high for one in (*found.speeds.values(), *found.gains.values()))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert all(-1e-6 < share < 1 for share in found.shares.values())
    said = capsys.readouterr().out
    for word in ("2 rounds", "1 threads", f"torch {torch.__version__}", "32 px", "batches of 8", "A step of ours"):
        assert word in said


def test_all_ways_learn_the_same(scene):
    """Else their times could not be compared: the same model from the same teacher, whose answers are the same."""
    found = ladder(PAIR, scene, (0,))
    first, *others = (way.train_step.model.state_dict() for way in found.values())
    for state in others:
        torch.testing.assert_close(dict(state), dict(first))
    batch, cached = next(found[CACHED].batches)
    [(_, live)] = ways.LiveTeacher(scene.teacher(PAIR.teacher, PAIR.size), 4).batches([batch])
    torch.testing.assert_close(cached["logits"], live["logits"], rtol=0.05, atol=0.05)  # one of the two in bfloat16
    teacher = found[CACHED].teacher
    computed = teacher.computed
    for _ in range(8):
        found[CACHED].step()
    assert teacher.computed == computed  # all hits


def test_decoded_files_are_the_pictures_of_the_cache(scene):
    data = scene.data(32)
    files = ways.decoding(data, "test", scene.files, ways.as_it_is(32))
    image, label = files[3]
    assert label == data.test.labels[3]
    cached = torch.from_numpy(np.array(data.test.images[3])).permute(2, 0, 1) / 255
    assert (image - cached).abs().mean() < 0.05  # resized by another filter
    augmented, _ = ways.decoding(data, "test", scene.files, ways.augmenting(32, True, 0.25))[3]
    assert augmented.shape == image.shape


def test_a_missed_goal_is_said():
    found = Found({}, {named(0): Median(1, 1, 1), CACHED: Median(7, 7, 7)}, named(0), {})
    slim = Pair("test_resnet", 16, 64, 8)
    assert goal(slim, found, bf16=True).startswith("MISSED")
    assert goal(slim, found, bf16=False).startswith("reached")
    assert goal(PAIR, found, bf16=True) is None


def test_whole_distillations_are_compared(scene, monkeypatch):
    monkeypatch.setenv("KD_LENS_ROOT", str(scene.store.paths.root))
    said = finish.compare(str(scene.files), scene.teacher("test_resnet", 32).id, 1, 8, (0,), threads=1)
    for name in ("ours, first", "ours, second", named(0)):
        [row] = [line for line in said.splitlines() if line.startswith(name)]
        *_, times, score = row.split()
        assert float(times) > 0
        assert 0 <= float(score) <= 1


def test_finish_needs_a_teacher(capsys):
    with pytest.raises(SystemExit):
        main(["--finish", "somewhere"])
    assert "--teacher-run" in capsys.readouterr().err
