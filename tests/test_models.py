import copy
import pickle
import threading
from functools import cache

import pytest
import timm
import torch
from lanes import slow

from kd.errors import UsageError
from kd.models import build, build_untrained
from kd.models.base import Classifier
from kd.spec import RunSpec

SIZE = 96


def spec(model: str, **changes) -> RunSpec:
    return RunSpec(model=model, **{"image_size": SIZE, **changes})


@cache
def ready(name: str) -> Classifier:
    """A built model in eval mode; shared between tests, so not to be changed."""
    return build(spec(name), classes=3).eval()


def pictures(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["plain", "test_resnet", *slow("densenet121")])
def test_a_seed_gives_the_same_weights_while_others_build_and_draw(name):
    expected = build(spec(name, seed=5), classes=3).state_dict()
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            torch.rand(100)
            build(spec("test_resnet", seed=9), classes=3)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        again = build(spec(name, seed=5), classes=3).state_dict()
    finally:
        stop.set()
        other.join()
    assert all(torch.equal(again[key], value) for key, value in expected.items())
    different = build(spec(name, seed=6), classes=3).state_dict()
    assert any(not torch.equal(different[key], value) for key, value in expected.items())


@pytest.mark.parametrize("make", [build, build_untrained])
@pytest.mark.parametrize("changes", [{"model": "plain"}, {"model": "test_resnet"},
                                     {"model": "truncated", "base": "test_resnet", "depth": 2}])
def test_the_global_generator_stays_where_it_is(make, changes):
    before = torch.get_rng_state()
    make(RunSpec(image_size=SIZE, **changes), classes=3)
    assert torch.equal(before, torch.get_rng_state())


def test_a_skeleton_is_the_same_architecture_and_needs_no_weights():
    model = build_untrained(spec("test_resnet", pretrained="/nowhere/weights.pth"), classes=3)
    assert model.state_dict().keys() == ready("test_resnet").state_dict().keys()


@pytest.mark.parametrize("name", ["plain", "test_resnet", *slow("densenet121")])
@pytest.mark.parametrize("reproduce", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["copied", "pickled"])
def test_a_reproduced_model_observes_the_same(name, reproduce):
    again = reproduce(ready(name))
    with torch.no_grad():
        expected, observed = ready(name)(pictures()), again(pictures())
    assert torch.equal(observed.logits, expected.logits)
    assert all(torch.equal(a, b) for a, b in zip(observed.stages, expected.stages, strict=True))


@pytest.mark.parametrize(("model", "choice", "mean"), [
    ("test_resnet", "imagenet", 0.485), ("test_resnet", "half", 0.5), ("inception_v3", "model", 0.485),
    ("plain", "model", 0.5), ("plain", "imagenet", 0.485)])
def test_the_input_scaling_is_chosen_by_the_spec(model, choice, mean):
    built = build_untrained(spec(model, normalisation=choice), classes=3)
    if choice == "model" and model != "plain":
        mean = timm.get_pretrained_cfg(model).mean[0]
    assert built.mean.flatten()[0].item() == pytest.approx(mean)
    black = torch.zeros(1, 3, SIZE, SIZE)
    with torch.no_grad():
        maps = built.eval().forward_stages((black - built.mean) / built.std)
        assert torch.equal(built(black).stages[0], maps[0])


def test_a_picture_too_small_for_a_network_is_refused_with_a_size_that_works():
    with pytest.raises(UsageError, match="Set the image size to 75 px"):
        build(spec("inception_v3", image_size=32), classes=3)
