import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_runs import made_trio, picture
from small_models import SIDE, Constant, Deep, Small, made

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.inspection import cam_check
from kd.inspection.cam_check import (
    COUNTERPARTS,
    BackgroundChecks,
    CamCheck,
    check,
    check_comparison,
    check_key,
    require_counterpart,
    worst,
)
from kd.inspection.compare import compare
from kd.models import build
from kd.spec import RunSpec
from kd.store.runs import Store

IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def explained(model, name, stages=(0, 1, -1), target=2):
    """An explanation as far as the check reads it."""
    count = len(model.stages)
    maps = EXPLAINERS[name].at_stages(model, to_tensor(IMAGE[None], "cpu"), torch.tensor([target]), stages)
    heat = tuple(SimpleNamespace(stage=stage % count, values=one.values[0].numpy())
                 for stage, one in zip(stages, maps, strict=True))
    return SimpleNamespace(explainer=name, image=IMAGE, target=target, maps=heat)


@pytest.mark.parametrize("kind", [Small, Deep])
@pytest.mark.parametrize("name", list(COUNTERPARTS))
def test_our_maps_are_the_packages_at_every_stage(name, kind):
    model = made(kind)
    found = check(model, explained(model, name))
    assert found.equal and found.difference < 1e-4
    assert "equal to pytorch-grad-cam" in found.sentence


def test_maps_of_real_networks_are_the_packages():
    for name in ("test_resnet", "test_efficientnet"):
        model = build(RunSpec(model=name, image_size=SIDE), 4).eval()
        assert check(model, explained(model, "grad-cam")).equal


def test_a_wrong_map_is_called_different():
    """As it is for another class, of another stage's weights, or where a cell is off."""
    model = made(Deep)
    right = explained(model, "grad-cam", (1,))
    assert check(model, right).equal
    for wrong in (SimpleNamespace(**{**vars(right), "target": 3}),
                  SimpleNamespace(**{**vars(right), "maps": tuple(
                      SimpleNamespace(stage=one.stage, values=one.values.T.copy()) for one in right.maps)})):
        found = check(model, wrong)
        assert not found.equal and found.difference > 0.01
        assert "differs" in found.sentence and f"{found.difference:.2g}" in found.sentence
        assert json.loads(json.dumps(found.to_json()))["equal"] is False


def test_blank_maps_and_diverged_models_are_not_compared():
    found = check(made(Constant), explained(made(Constant), "hires-cam"))
    assert found.difference is None or found.equal
    diverged = made()
    for weight in diverged.parameters():
        weight.data.fill_(float("nan"))
    found = check(diverged, explained(diverged, "grad-cam"))
    assert found.difference is None and "diverged" in found.sentence and not found.equal
    json.dumps(found.to_json(), allow_nan=False)


def test_a_map_that_is_blank_only_on_our_side_is_called_different():
    model = made(Deep)
    right = explained(model, "layer-cam", (1,))
    blank = SimpleNamespace(stage=1, values=np.zeros_like(right.maps[0].values))
    assert check(model, SimpleNamespace(**{**vars(right), "maps": (blank,)})).difference == pytest.approx(1)


def test_ablation_cam_is_compared_only_where_the_two_switch_a_channel_off_alike():
    class Signed(Small):
        def forward_stages(self, normalised):
            return tuple(one - 0.1 for one in super().forward_stages(normalised))

    found = check(made(Signed), explained(made(Signed), "ablation-cam", (-1,)))
    assert found.difference is None and "below 0" in found.reason


def test_the_worst_of_several_speaks_for_all():
    good, better, bad = CamCheck("grad-cam", 1e-6), CamCheck("grad-cam", 1e-8), CamCheck("grad-cam", 0.2)
    none = CamCheck("grad-cam", None, "the map is blank")
    assert worst([better, good, none]) is good
    assert worst([good, bad]) is bad
    assert worst([bad, lost := replace(bad, difference=float("nan"))]) is lost
    assert worst([none]) is none and not none.equal
    assert "the map is blank" in none.sentence


@pytest.fixture
def comparison():
    store = Store()
    _, _, student = made_trio(store)
    return lambda explainer: compare(store, student, picture(), explainer=explainer, repeats=1)


def test_a_comparison_is_checked_in_the_background_once(comparison):
    checks, found = BackgroundChecks(most=1), comparison("grad-cam")
    asked = checks.ask(check_key(found), found)
    assert asked.result(60).equal
    assert checks.ask(check_key(found), found) is asked
    other = comparison("hires-cam")
    assert checks.ask(check_key(other), other).result(60).explainer == "hires-cam"
    assert checks.ask(check_key(found), found) is not asked, "only the latest are remembered"


def test_what_takes_long_or_has_no_counterpart_is_not_checked_while_a_page_waits(comparison):
    assert check_comparison(comparison("stage-maps")) is None
    assert check_comparison(comparison("score-cam")) is None


def test_runs_that_still_train_are_not_checked(comparison, monkeypatch):
    """Their weights may have changed since the maps were made."""
    found = comparison("grad-cam")
    for panel in found.panels:
        (panel.explanation.run.path / "summary.json").unlink()
    assert check_comparison(found) is None


def test_a_check_that_fails_says_so_and_breaks_nothing(comparison, monkeypatch):
    def fail(*_):
        raise RuntimeError("no more memory")

    monkeypatch.setattr(cam_check, "raw_map", fail)
    found = comparison("grad-cam")
    check = BackgroundChecks().ask(check_key(found), found).result(60)
    assert check.difference is None and "no more memory" in check.sentence


def test_an_explainer_without_counterpart_is_refused_with_the_way_out():
    with pytest.raises(UsageError, match=r"nothing to check occlusion .* grad-cam"):
        require_counterpart("occlusion")
    with pytest.raises(UsageError, match="Unknown explainer"):
        require_counterpart("grad-kam")
    require_counterpart("layer-cam")
