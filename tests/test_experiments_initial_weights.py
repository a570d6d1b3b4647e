import pytest
import torch

from kd.errors import UsageError
from kd.experiments.initial_weights import initial_weights, plain_weights
from kd.models.weights import fingerprint
from kd.paths import Paths
from kd.store.runs import Store


@pytest.fixture
def store(tmp_path):
    return Store(Paths(tmp_path / "store"))


@pytest.mark.parametrize("source", ["none", "hub"])
def test_weights_without_a_file_are_named_as_they_are(store, source):
    assert initial_weights(source, store) == {"pretrained": source}


def test_a_file_is_named_by_its_whole_path_and_its_digest(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({}, "some.pth")
    assert initial_weights("some.pth", store) == {"pretrained": str(tmp_path / "some.pth"),
                                                  "pretrained_fingerprint": fingerprint(tmp_path / "some.pth")}


def test_an_unknown_run_is_refused(store):
    with pytest.raises(UsageError, match="nobody"):
        initial_weights("run:nobody", store)


@pytest.mark.parametrize("source", ["hub", "teacher"])
def test_a_plain_network_has_no_such_weights(store, source):
    with pytest.raises(UsageError, match=f"cannot start from '{source}'"):
        plain_weights(source, store)
    assert plain_weights("none", store) == {"pretrained": "none"}
