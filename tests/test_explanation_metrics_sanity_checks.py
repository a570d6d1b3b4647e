"""Also the sanity check of the whole chain: a trained model's maps hit the evidence, a scrambled one's do not."""

import numpy as np
import pytest
import torch
from made_runs import picture
from small import trained

from kd.datasets import open_dataset
from kd.errors import Stopped
from kd.evaluation import predict
from kd.explainers import EXPLAINERS
from kd.explanation_metrics.localisation import localisation, masked
from kd.explanation_metrics.sanity_checks import explain_batchwise, layer_groups, randomisation_test, randomise_weights
from kd.models import build_untrained
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store

MODELS = {"plain": RunSpec(model="plain", depth=3, width=4, image_size=32),
          "explained": RunSpec(model="plain", depth=3, width=4, image_size=32, mask_net_depth=2, mask_net_width=4),
          "truncated": RunSpec(model="truncated", base="resnet10t", depth=2, image_size=32),
          "timm": RunSpec(model="test_resnet", image_size=32)}


@pytest.fixture(params=list(MODELS))
def model(request):
    return build_untrained(MODELS[request.param], 3).eval().requires_grad_(False)


def test_levels_hold_every_used_parameter_once_from_the_head_to_the_picture(model):
    found = layer_groups(model, 32)
    assert [name for name, _ in found] == ["head", *(stage.name for stage in reversed(model.stages)),
                                           *["explainer"] * model.has_mask]
    names = [name for _, members in found for name in members]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(members for _, members in found if _ == "head")


def test_a_scrambled_copy_differs_only_where_it_should(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    members = layer_groups(model, 32)[1][1]
    copied = randomise_weights(model, members, seed=1)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the model itself"
    for key, value in copied.named_parameters():
        old = before[key]
        if key in members:
            assert torch.equal(value.flatten().sort().values, old.flatten().sort().values)
            assert value.unique().numel() == 1 or not torch.equal(value, old)
        else:
            assert torch.equal(value, old)
    assert not copied.training and not any(value.requires_grad for value in copied.parameters())
    again = randomise_weights(model, members, seed=1)
    assert all(torch.equal(*pair) for pair in zip(copied.parameters(), again.parameters(), strict=True))


def test_maps_of_many_pictures_are_those_of_each():
    model = build_untrained(MODELS["plain"], 3).eval()
    images, targets = np.stack([picture(seed) for seed in range(11)]), np.arange(11) % 3
    maps, blank = explain_batchwise(EXPLAINERS["grad-cam"], model, images, targets)
    for number in (0, 7, 10):
        alone, _ = explain_batchwise(
            EXPLAINERS["grad-cam"], model, images[number : number + 1], targets[number : number + 1]
        )
        assert maps[number] == pytest.approx(alone[0], abs=1e-5)
    assert maps.shape[0] == len(blank) == 11


def test_of_signed_maps_only_what_speaks_for_the_class_is_kept():
    model = build_untrained(MODELS["plain"], 3).eval()
    images, targets = np.stack([picture(seed) for seed in range(3)]), np.zeros(3, np.int64)
    name = next(name for name in EXPLAINERS if EXPLAINERS[name].info.signed
                and EXPLAINERS[name].info.cost == "instant")
    maps, blank = explain_batchwise(EXPLAINERS[name], model, images, targets)
    raw = EXPLAINERS[name](model, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
                           torch.from_numpy(targets)).values.numpy()
    assert (maps[~blank][raw[~blank] < 0] == 0).all()
    assert (maps[~blank].max(axis=(1, 2)) == 1).all()


def test_it_stops_between_batches():
    def stop(share: float) -> None:
        raise Stopped

    model = build_untrained(MODELS["plain"], 3).eval()
    with pytest.raises(Stopped):
        randomisation_test(EXPLAINERS["grad-cam"], model, picture()[None], np.zeros(1, np.int64), progress=stop)


class Seen:
    """A small model trained to tell clear phantoms apart, its test images with evidence, and their masks."""

    STAGE = 1  # 16 x 16 cells: at 64 px the last stage's four by four are larger than the lesions

    def __init__(self, root):
        store = Store(Paths(root))
        run = trained(store, data="phantom-brain:count=400,difficulty=0", image_size=64, depth=4, width=8, epochs=6,
                      batch_size=16, views=5, learning_rate=4e-3)
        data = open_dataset(run.spec.data, run.spec.image_size, store.paths)
        told = masked(data.test, np.arange(len(data.test)))
        self.accuracy = run.summary["accuracy"]
        self.model = predict.load(run, len(data.classes)).requires_grad_(False)
        self.images, self.masks, self.labels = (np.asarray(part[told]) for part in (
            data.test.images, data.test.evidence, data.test.labels))
        self.classes = data.classes

    def located(self, model):
        maps, blank = explain_batchwise(EXPLAINERS["grad-cam"], model, self.images, self.labels, self.STAGE)
        found = localisation(maps, blank, self.masks)
        return found, found.to_json(self.labels, self.classes)

    def without_learning(self, seed):
        return randomise_weights(self.model, [name for name, _ in self.model.named_parameters()], seed)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    torch.set_num_threads(1)
    lock = tmp_path_factory.mktemp("evidence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_LENS_LOCK", str(lock / "worker.lock"))
        return Seen(lock)


def test_a_trained_models_maps_hit_the_evidence_and_a_scrambled_ones_do_not(seen):
    assert seen.accuracy > 0.6
    _, said = seen.located(seen.model)
    hits, area = said["scores"]["pointing"], said["area"]
    assert area < 0.05
    assert hits["value"]["low"] > 0.4, "far above the area, the middle and other images' maps"
    assert hits["over_centre"]["low"] > 0.2 and hits["over_others"]["low"] > 0.2
    assert said["scores"]["energy"]["over_area"]["low"] > 0.05
    # Blank maps are left out, and a scrambled network makes many.
    scores = [seen.located(seen.without_learning(seed))[1]["scores"] for seed in range(6)]
    points = [one["pointing"]["value"]["mean"] for one in scores if one["pointing"]["value"]["n"] > 10]
    assert len(points) >= 3
    assert np.mean(points) < 0.2
    assert np.mean([one["energy"]["value"]["mean"] for one in scores if one["energy"]["value"]["n"] > 10]) < 2 * area


def test_scrambling_stage_by_stage_takes_the_map_to_chance(seen):
    few = slice(0, 24)
    said = randomisation_test(EXPLAINERS["layer-cam"], seen.model, seen.images[few], seen.labels[few], Seen.STAGE)
    steps = [row["spearman"]["mean"] for row in said["rows"]]
    assert said["rows"][0]["down_to"] == "head"
    assert said["rows"][-1]["parameters"] == len(list(seen.model.parameters()))
    assert steps[-1] < 0.5 * max(steps[0], 0.5)
    assert steps[-1] < said["chance"] + 0.25
