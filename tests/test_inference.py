"""Engines answer as torch does, are chosen once for a machine, and give way to torch where they cannot."""

import copy
import json

import pytest
import torch
from lanes import slow
from small_models import Deep, Small, explained

from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.inference import choice
from kd.inference.choice import FILE, VARIABLE, choose, fastest_engine, open_engine
from kd.inference.engine import BF16, FLOAT32, Asked, TorchEngine, error, spread_error, torch_record
from kd.inference.fast_model import fast_model
from kd.inference.openvino_engine import OpenVinoEngine, compute_type, noise, openvino_record
from kd.inference.record import OPENVINO, TORCH, EngineRecord, engines_used, lines, recorded
from kd.models import build
from kd.paths import default_paths
from kd.spec import RunSpec
from kd.store.runs import Store

CPU, SIZE = torch.device("cpu"), 32
OUTPUTS = ("logits", "stage:0", "attention:1", "pooled:1", "stage:-1")
ASKING = ("grad-cam", "occlusion")  # explainers that an engine answers
NETS = ("plain", "test_resnet", *slow(
    "test_efficientnet", "test_nfnet", "test_convnext", "test_mambaout", "densenet121", "mobilenetv2_100", "resnet18",
    "regnetx_002", "ghostnet_100", "hrnet_w18_small", "repvgg_a0", "hgnetv2_b0", "vgg11_bn", "truncated"))


@pytest.fixture(autouse=True)
def openvino(monkeypatch):
    """OpenVINO whenever it can answer, however fast torch is here."""
    monkeypatch.setenv(VARIABLE, OPENVINO)


class Trials:
    """Trials with times put in: seconds of torch and OpenVINO. made: how many there were."""

    def __init__(self):
        self.seconds, self.made = [3.0, 1.0], 0

    def __call__(self, engines, images):
        self.made += 1
        return self.seconds


@pytest.fixture
def trials(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    found = Trials()
    monkeypatch.setattr(choice, "_seconds", found)
    return found


def model(name="test_resnet"):
    about = {"base": "mobilenetv2_100", "depth": 2} if name == "truncated" else {}
    torch.manual_seed(0)
    found = build(RunSpec(model=name, image_size=SIZE, width=8, **about), 5).eval().requires_grad_(False)
    last = [layer for layer in found.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(last.weight, std=0.1)  # a new head is zero
    return found


def outputs(one):
    return (*OUTPUTS, *["cams"] * (one.pooled_linear is not None))


def small(kind=Small):
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)


def asked(**changes):
    return Asked(**{"outputs": ("logits",), "batch": 4, "size": SIZE, "images": 10**9, **changes})


def fast(one, **changes):
    about = asked(**changes)
    found = open_engine(one, choose(one, lambda: one, about, CPU, default_paths()), about)
    assert found.record.engine == OPENVINO, found.record.reason
    return found


@pytest.mark.parametrize("name", NETS)
def test_in_float32_openvino_is_torch(name):
    one, images = model(name), noise(4, SIZE)
    found, exact = fast(one, outputs=outputs(one))(images), TorchEngine(one, outputs(one))(images)
    assert [*found] == [*exact] == [*outputs(one)]
    assert {key: values.shape for key, values in found.items()} == {key: one.shape for key, one in exact.items()}
    assert error(found, exact) < 1e-4
    assert all(values.dtype == torch.float32 for values in found.values())


@pytest.mark.parametrize("name", NETS)
def test_in_half_precision_openvino_errs_as_autocast_does(name):
    one, images = model(name), noise(4, SIZE)
    found, exact = fast(one, outputs=outputs(one), precision=BF16)(images), TorchEngine(one, outputs(one))(images)
    theirs = TorchEngine(one, outputs(one), BF16)(images)
    assert spread_error(found, exact) <= choice.AS_AUTOCAST * spread_error(theirs, exact) < 0.1


def test_an_answer_depends_neither_on_the_number_of_images_nor_on_the_other_images():
    one, images = fast(small(), outputs=("logits", "stage:1")), noise(11, SIZE)
    whole = one(images)
    assert len(whole["logits"]) == 11
    for part in (images[9:], images[2:3], images[:4]):
        start = next(n for n in range(11) if torch.equal(images[n], part[0]))
        for name, values in one(part).items():
            assert torch.equal(values, whole[name][start:start + len(part)])


def test_a_single_early_stage_is_computed_alone():
    one = small()
    found = TorchEngine(one, ("stage:0",))(noise(2, SIZE))["stage:0"]
    assert torch.equal(found, one.features_at(noise(2, SIZE), 0))
    torch.testing.assert_close(fast(one, outputs=("stage:0",))(noise(2, SIZE))["stage:0"], found, rtol=1e-4, atol=1e-4)


def test_opening_an_engine_changes_nothing_else():
    one = small().train()
    one.layers[0].eval()  # as a frozen stage of a model in training
    before, mode = torch.get_rng_state(), [module.training for module in one.modules()]
    fast(one, outputs=("stage:0",))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in one.modules()] == mode


class Untraceable(Small):
    """Computes with a number of Python's, which a traced program has as it was then."""

    def forward_head(self, features):
        return super().forward_head(features) * float(features.sum())


class Unreadable(Small):
    """Refuses to be traced."""

    def forward_head(self, features):
        if torch.jit.is_tracing():
            raise NotImplementedError("not\ntraceable")
        return super().forward_head(features)


@pytest.mark.parametrize(("kind", "name", "why"), [
    (Deep, "cams", "class maps are gradients"), (Untraceable, "logits", "answers err by"),
    (Unreadable, "logits", "cannot convert the network (RuntimeError")])
def test_torch_answers_where_openvino_cannot_and_says_why(kind, name, why, trials):
    found = fastest_engine(small(kind), asked(outputs=(name,)), CPU, default_paths())
    assert found.record.same_as(torch_record(FLOAT32))
    assert why in found.record.reason
    assert "\n" not in found.record.reason
    assert found(noise(2, SIZE))[name].shape[:2] == (2, 5)
    assert not trials.made


@pytest.mark.parametrize(("about", "why"), [
    ({"precision": "16-mixed"}, "torch's own"), ({"images": 20}, "too few images"), ({}, "the model is on meta")])
def test_torch_answers_where_nothing_else_pays(about, why, trials):
    one = small()
    device = CPU if about else torch.device("meta")
    assert why in choose(one, lambda: one, asked(**about), device, default_paths()).reason


def test_without_openvino_torch_answers(monkeypatch):
    monkeypatch.setattr(choice, "installed", lambda: "")
    assert fastest_engine(small(), asked(), CPU, default_paths()).record.engine == TORCH


def test_a_trial_is_made_once_for_an_architecture_and_kept_with_the_machine(trials):
    one = small()
    first = fastest_engine(one, asked(), CPU, default_paths()).record
    assert first.same_as(openvino_record(FLOAT32))
    assert "3.00 times as fast" in first.reason
    bare = small().to("meta")
    assert choose(bare, lambda: pytest.fail("loaded"), asked(), CPU, default_paths()) == first
    assert trials.made == 1
    [kept] = json.loads((default_paths().cache / FILE).read_text()).values()
    assert kept["engine"] == OPENVINO
    for other in ({"batch": 2}, {"outputs": ("cams",)}, {"precision": BF16}):
        choose(one, lambda: one, asked(**other), CPU, default_paths())
    assert trials.made == 4


def test_what_a_trial_has_converted_is_opened_once_and_converted_anew_then(trials, monkeypatch):
    one, made = small(), []

    class Counted(OpenVinoEngine):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(choice, "OpenVinoEngine", Counted)
    fastest_engine(one, asked(), CPU, default_paths())
    assert len(made) == 1
    with torch.no_grad():
        one.fc.bias.add_(1)  # as by a training
    again = fastest_engine(one, asked(), CPU, default_paths())
    assert len(made) == 2
    torch.testing.assert_close(again(noise(2, SIZE))["logits"], one(noise(2, SIZE)).logits, rtol=1e-4, atol=1e-4)


def test_the_faster_engine_is_taken(trials):
    trials.seconds = [1.0, 1.0]
    found = fastest_engine(small(), asked(), CPU, default_paths()).record
    assert found.engine == TORCH
    assert found.reason == "OpenVINO is 1.00 times as fast as torch"


def test_a_damaged_file_of_choices_is_written_anew(trials):
    default_paths().cache.mkdir(parents=True)
    (default_paths().cache / FILE).write_text("{")
    fastest_engine(small(), asked(), CPU, default_paths())
    assert len(json.loads((default_paths().cache / FILE).read_text())) == 1


def test_an_interrupted_run_keeps_its_engine_where_it_can_be_had(trials):
    one = small()
    for earlier in (torch_record(FLOAT32, "before"), openvino_record(FLOAT32, "before")):
        assert choose(one, lambda: one, asked(), CPU, default_paths(), earlier) == earlier
    old = EngineRecord(OPENVINO, "2020.1", "f32")
    found = choose(one, lambda: one, asked(), CPU, default_paths(), old)
    assert found.same_as(openvino_record(FLOAT32))
    assert found.reason.startswith("OpenVINO 2020.1 in f32 cannot be had here any more; ")


def test_an_unknown_engine_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "fastest")
    with pytest.raises(UsageError, match="torch or openvino"):
        fastest_engine(small(), asked(), CPU, default_paths())


def test_bf16_is_computed_where_the_processor_has_it():
    assert compute_type(FLOAT32) == "f32"
    assert compute_type(BF16) in ("f32", "bf16")
    assert OpenVinoEngine(small(), asked(precision=BF16)).record.precision == compute_type(BF16)


def test_outputs_of_different_engines_have_different_keys():
    assert torch_record(FLOAT32).key == {}  # as before there were others
    others = [EngineRecord(OPENVINO, version, kind) for version in ("2020.1", "2020.2") for kind in ("f32", "bf16")]
    assert len({record.key["engine"] for record in others}) == 4


def test_a_run_knows_its_engines_by_part():
    run = Store().create(RunSpec(image_size=SIZE))
    assert engines_used(run) == {}
    for part, version in (("teacher_cache", "1"), ("teacher_cache", "2"), ("predictions", "3")):
        run.log("engine", part=part, **EngineRecord(OPENVINO, version, "f32", "why").to_json())
    assert recorded(run, "teacher_cache") == EngineRecord(OPENVINO, "2", "f32", "why")
    assert [*engines_used(run)] == ["teacher_cache", "predictions"]
    assert recorded(run, "other") is None
    assert lines(run) == ["Teacher outputs by OpenVINO 2 in f32: why.", "Predictions by OpenVINO 3 in f32: why."]


def test_a_fast_model_answers_as_the_model_does_and_differentiates_as_it_does():
    one, images = small(), noise(3, SIZE)
    found = fast_model(one, SIZE, 10**9, default_paths())
    torch.testing.assert_close(found(images, stages=False).logits, one(images).logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.features_at(images, -1), one.features_at(images, 2), rtol=1e-4, atol=1e-4)
    assert {name: engine.record.engine for name, engine in found.engines.items()} == {
        "logits": OPENVINO, "stage:2": OPENVINO}
    found.features_at(images, 0)
    assert [*found.engines] == ["stage:2", "stage:0"], "two at most"
    assert torch.equal(found(images).stages[0], one(images).stages[0])
    seen = images.requires_grad_()
    [gradient], [own] = (torch.autograd.grad(net(seen, stages=False).logits.sum(), seen) for net in (found, one))
    assert torch.equal(gradient, own)
    assert type(copy.deepcopy(found)) is Small


@pytest.mark.parametrize("name", [*ASKING, *slow(*(name for name in EXPLAINERS if name not in (*ASKING, "mask")))])
def test_every_explainer_takes_a_fast_model(name, few_samples):
    one, images, targets = small(), noise(2, SIZE), torch.tensor([0, 1])
    exact = EXPLAINERS[name](one, images, targets)
    found = EXPLAINERS[name](fast_model(one, SIZE, 10**9, default_paths()), images, targets)
    torch.testing.assert_close(found.values, exact.values, rtol=1e-3, atol=1e-3)


def test_a_fast_model_is_asked_again_once_more_is_expected(trials):
    found = fast_model(small(), SIZE, 10, default_paths())
    found(noise(2, SIZE), stages=False)
    assert found.engines["logits"].record.engine == TORCH
    found.expect(10**9)
    found(noise(2, SIZE), stages=False)
    assert found.engines["logits"].record.engine == OPENVINO


def test_behind_a_mask_a_model_answers_itself():
    masked = explained()
    assert fast_model(masked, SIZE, 10**9, default_paths()) is masked
