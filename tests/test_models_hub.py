import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from kd.errors import UsageError
from kd.models import build, hub, search, weights
from kd.spec import RunSpec

NAME = "test_resnet"
REPOSITORY = "timm/test_resnet.r160_in1k"


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": NAME, "image_size": 64, "pretrained": "hub", **changes})


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch) -> Path:
    """No test sees what this machine has downloaded."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch) -> None:
    """A server that refuses the connection."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("tried to download"))


@pytest.fixture
def cached(empty_cache) -> dict[str, torch.Tensor]:
    """timm's weights of the model, as the hub's cache holds them: with 1000 classes."""
    state = {name.removeprefix("net."): value for name, value in build(spec(pretrained="none", seed=8),
                                                                       classes=1000).state_dict().items()}
    folder = empty_cache / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
    return state


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("changes", [{}, {"model": "truncated", "base": NAME, "depth": 2}])
def test_without_a_network_there_is_one_sentence_and_a_way_out(changes):
    with pytest.raises(UsageError, match="cannot be reached. Connect to a network, start from none, or name a local"):
        build(spec(**changes), classes=3)


def test_offline_by_choice_asks_nobody(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "reachable", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(UsageError, match="cannot be reached"):
        build(spec(), classes=3)


@pytest.mark.usefixtures("no_network")
def test_weights_in_the_cache_need_no_network(cached):
    own = build(spec(), classes=3).state_dict()
    assert own["net.fc.weight"].shape[0] == 3
    assert all(torch.equal(own[f"net.{name}"], value) for name, value in cached.items() if not name.startswith("fc."))


@pytest.mark.usefixtures("no_network")
def test_a_truncated_student_starts_from_its_bases_weights(cached):
    student = build(spec(model="truncated", base=NAME, depth=2), classes=3)
    assert torch.equal(student.net.layer2[0].conv1.weight, cached["layer2.0.conv1.weight"])


def test_a_download_is_used_and_a_failed_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "reachable", lambda *_: True)
    state = build(spec(pretrained="none", seed=8), classes=3)
    weights.save(state, tmp_path / "model.safetensors")  # by timm's own names
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model.safetensors"))
    assert torch.equal(build(spec(), classes=3).net.conv1[0].weight, state.net.conv1[0].weight)

    def broken(*_, **__):
        raise ConnectionError("the line went dead")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(UsageError, match="could not be downloaded: the line went dead"):
        build(spec(), classes=3)


def test_a_model_without_weights_and_plain_are_refused():
    nameless = next(entry.name for entry in search("densenet") if not entry.hub)
    with pytest.raises(UsageError, match=f"no trained weights for {nameless}"):
        hub.hub_arguments(nameless)
    with pytest.raises(UsageError, match="no weights for plain"):
        build(spec(model="plain"), classes=3)


class _Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_) -> None:
        pass


def test_any_answer_means_reachable():
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        assert hub.reachable(f"http://127.0.0.1:{server.server_port}/")
    finally:
        thread.join()
        server.server_close()


def test_no_answer_means_not_reachable_and_is_not_waited_for():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not hub.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/", patience=0.2)
    assert not hub.reachable("not an address")
