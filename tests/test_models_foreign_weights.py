import re

import pytest
import timm
import torch

from kd.errors import UsageError
from kd.models import build, check_weights
from kd.models.foreign_weights import COUNTS, Target, fitted
from kd.models.timm_info import timm_info
from kd.spec import RunSpec

NAME, CLASSES = "test_resnet", 7


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": NAME, "image_size": 64, **changes})


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    """timm's names, 7 classes."""
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=CLASSES).state_dict()


def before(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def body(state):
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def renamed(state):
    """Names of nobody's, in the same order."""
    return {f"layer_{number}.{name.rpartition('.')[2]}": value for number, (name, value) in enumerate(state.items())}


FILES = {
    "bare": (lambda state: state, ""),
    **{prefix: (lambda state, prefix=prefix: before(prefix, state), "") for prefix in
       ("module.", "model.", "backbone.", "encoder.", "student.", "visual.trunk.", "_orig_mod.", "_orig_mod.module.",
        "module.student.", "net.", "nobody.knows.")},
    "lightning": (lambda state: {**before("model.", state), "criterion.weight": torch.ones(4)},
                  "Taken were the tensors under model.; left out: criterion.weight."),
    "another head": (lambda state: {**before("encoder.", body(state)), "head.weight": torch.zeros(4, 9)},
                     "Taken were the tensors under encoder.; left out: head.weight."),
    "half": (lambda state: {name: value.half() for name, value in state.items()}, ""),
    "bfloat16": (lambda state: {name: value.bfloat16() for name, value in state.items()}, ""),
    "headless": (body, ""),
    "without counts": (lambda state: {name: value for name, value in state.items() if "num_batches" not in name}, ""),
    "by order": (renamed, "matched by their order, in which all shapes agree"),
}


@pytest.mark.parametrize("name", FILES)
def test_weights_are_taken_however_they_were_wrapped_and_it_is_said(name, source, tmp_path):
    change, said = FILES[name]
    torch.save(change(source), tmp_path / "weights.pth")
    about = spec(pretrained=str(tmp_path / "weights.pth"))
    model = build(about, classes=CLASSES)
    for one, value in body(source).items():
        if "num_batches" not in one:
            expected = value.half().float() if name == "half" else value.bfloat16().float() if name == "bfloat16" \
                else value
            assert torch.equal(model.net.state_dict()[one], expected), one
    assert check_weights(about, CLASSES) == model.initial_notes
    assert said in " ".join(model.initial_notes)
    assert bool(model.initial_notes) == bool(said)


def test_a_classifier_of_other_classes_is_left_out_and_said(source, tmp_path):
    torch.save(source, tmp_path / "weights.pth")
    model = build(spec(pretrained=str(tmp_path / "weights.pth")), classes=3)
    assert model.initial_notes == ("Its classifier of 7 classes was left out.",)
    assert not model.net.fc.weight.any()
    assert torch.equal(model.net.layer1[0].conv1.weight, source["layer1.0.conv1.weight"])


def test_a_stem_for_grey_images_gives_the_same_for_a_grey_image(tmp_path):
    grey = timm.create_model(NAME, num_classes=3, in_chans=1)
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    model = build(spec(pretrained=str(tmp_path / "grey.pth")), classes=3)
    assert "made for grey images" in model.initial_notes[0]
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        seen = model.net.eval()(images.expand(-1, 3, -1, -1))
        assert torch.allclose(seen, grey.eval()(images), atol=1e-5)


def test_the_weights_of_another_network_are_refused_with_what_does_not_fit(source, tmp_path):
    torch.save({**source, "layer1.0.conv1.weight": torch.ones(2, 2), "extra.weight": torch.ones(1)},
               tmp_path / "weights.pth")
    for check in (build, check_weights):
        with pytest.raises(UsageError, match=r"do not fit test_resnet.*1 unexpected \(extra.weight\)"):
            check(spec(pretrained=str(tmp_path / "weights.pth")), CLASSES)


def test_shapes_that_agree_with_other_kinds_of_tensors_are_not_matched_by_order(source):
    swapped = {name.replace("running_mean", "shift"): value for name, value in renamed(source).items()}
    target = Target(source, NAME, ("fc",))
    assert target.fitting(fitted(swapped, target).tensors) == 0


def test_a_truncated_student_takes_its_share_of_a_checkpoint(source, tmp_path):
    torch.save({"state_dict": before("module.", source)}, tmp_path / "weights.pth")
    model = build(RunSpec(model="truncated", base=NAME, depth=2, image_size=64,
                          pretrained=str(tmp_path / "weights.pth")), classes=3)
    assert torch.equal(model.net.layer2[0].conv1.weight, source["layer2.0.conv1.weight"])


def of_torchvision(state):
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value for name, value in state.items()}


def vgg_of_torchvision(state):
    names = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    return {next((name.replace(ours, theirs) for ours, theirs in names.items() if name.startswith(ours)), name):
            value.flatten(1) if name.startswith("pre_logits") and value.ndim == 4 else value
            for name, value in state.items()}


def convnext_of_its_authors(state):
    for ours, theirs in ((r"^stem\.0\.", "downsample_layers.0.0."), (r"^stem\.1\.", "downsample_layers.0.1."),
                         (r"^stages\.(\d)\.downsample\.(\d)\.", r"downsample_layers.\1.\2."),
                         (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."), (r"conv_dw\.", "dwconv."),
                         (r"mlp\.fc1\.", "pwconv1."), (r"mlp\.fc2\.", "pwconv2."), (r"^head\.fc\.", "head."),
                         (r"^head\.norm\.", "norm.")):
        state = {re.sub(ours, theirs, name): value for name, value in state.items()}
    return state


@pytest.mark.parametrize(("name", "change"), [
    ("densenet121", of_torchvision), ("vgg11", vgg_of_torchvision), ("convnext_atto", convnext_of_its_authors)])
def test_the_authors_names_are_converted_by_timm(name, change):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=10).state_dict()
    target = Target(state, name, timm_info(name).classifier)
    found = fitted(before("module.", change(state)), target)
    assert target.fitting(found.tensors) == len(target.needed)
    # Each is the very tensor that had the name, but for matrices that became convolutions.
    assert all(found.tensors[one] is value for one, value in target.own.items()
               if not one.startswith("pre_logits") and not one.endswith(COUNTS))
    assert found.notes == [f"Its names are those of other authors than timm; timm's conversion for {name} was used."]


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(kind, source, tmp_path):
    torch.save({name: (100 * value).to(kind) for name, value in source.items()}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match=r"not of real numbers, as after quantising \("):
        build(spec(pretrained=str(tmp_path / "weights.pth")), 4)


def test_a_classifier_that_is_one_number_is_left_out(source, tmp_path):
    torch.save({name: value.sum() if name.startswith("fc.") else value for name, value in source.items()},
               tmp_path / "weights.pth")
    assert build(spec(pretrained=str(tmp_path / "weights.pth")), 4).initial_notes == ()
