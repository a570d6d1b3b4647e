import shutil
from pathlib import Path

import numpy as np
import pytest
from made_sets import make_folder
from small import trained

from kd.datasets import inspect
from kd.errors import UsageError
from kd.evaluation import predict
from kd.metrics import classification
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.predictions import load
from kd.store.runs import Store


def test_predictions_on_disk_give_the_scores():
    store = Store()
    run = trained(store)
    scores = predict.evaluate(run, store)
    with np.load(run.path / "predictions.npz") as stored:
        logits, labels, names = stored["logits"], stored["labels"], stored["names"]
    assert len(names) == len(labels) == scores["images"]
    assert classification.summarise(logits, labels)["macro_f1"] == scores["macro_f1"] == run.evaluation["macro_f1"]


def test_whose_picture_is_whose_is_kept_with_the_answers(tmp_path):
    root, store = make_folder(tmp_path / "people", {"a": 30, "b": 30}), Store()
    files = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    lines = [f"{file.as_posix()},person {number // 3}" for number, file in enumerate(files)]
    (root / "groups.csv").write_text("\n".join(["file,group", *lines]) + "\n")
    run = store.create(RunSpec(data=str(root), image_size=32))
    test = predict.data_of(run, store).test
    predict.record(run, np.zeros((len(test), 2), np.float32), test)
    found = load(run)
    assert found is not None
    assert found.groups == test.groups
    assert 1 < len(set(found.groups)) < len(found.names)


def test_the_data_of_a_moved_store_are_found_again_by_their_content(tmp_path):
    before = Paths(tmp_path / "before")
    set_of(before.data / "people")
    set_of(before.data / "zz", side=20)
    spec = make_spec("people", before)
    store = Store(Paths((tmp_path / "before").rename(tmp_path / "after")))
    (store.paths.data / "people").rename(store.paths.data / "renamed")
    (store.paths.data / "empty").mkdir()
    run = store.create(spec)
    data = predict.data_of(run, store)
    assert data.fingerprint == spec.data_fingerprint and data.reference == str(store.paths.data / "renamed")
    shutil.rmtree(store.paths.data / "renamed")
    with pytest.raises(UsageError, match="There is no data set"):
        predict.data_of(run, store)


def make_spec(name: str, paths: Paths) -> RunSpec:
    seen = inspect(name, paths)
    return RunSpec(data=seen.reference, data_fingerprint=seen.fingerprint, image_size=32)


def set_of(root: Path, side: int = 16) -> Path:
    return make_folder(root, {"a": 12, "b": 12}, size=(side, side))


def test_a_run_without_weights_says_so():
    store = Store()
    with pytest.raises(UsageError, match="has no weights yet"):
        predict.evaluate(store.create(RunSpec(data="phantom-brain:count=40", image_size=32)), store)


def test_a_data_set_that_changed_is_not_scored():
    store = Store()
    run = store.create(RunSpec(data="phantom-brain:count=40", image_size=32, data_fingerprint="0000"))
    with pytest.raises(UsageError, match="has changed since"):
        predict.evaluate(run, store)
