import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from kd.errors import UsageError
from kd.experiments.plan import DistillSpec
from kd.experiments.sweep import Sweep
from kd.spec import RunSpec


def test_round_trip_through_json():
    spec = RunSpec(method="kd", method_args={"temperature": 4, "alpha": 0.1}, teacher="t", image_size=64,
                   mask_net_depth=3, mask_net_width=6, mask_fill="blur")
    again = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.id == spec.id
    assert hash(again) == hash(spec)


@pytest.mark.parametrize("name", [item.name for item in fields(RunSpec) if item.name != "method_args"])
def test_every_field_has_help_and_changes_the_id(name):
    item = next(item for item in fields(RunSpec) if item.name == name)
    assert item.metadata["help"].endswith(".")
    choices = item.metadata["choices"]
    changed = choices[-1] if choices else "other" if isinstance(item.default, str) else item.metadata["low"]
    if name == "fold":  # it must be one of the folds
        assert RunSpec(folds=5, fold=2).id != RunSpec(folds=5).id
        return
    if name == "input_size":  # it must be smaller than the images
        assert replace(RunSpec(), input_size=48).id != RunSpec().id
        return
    assert replace(RunSpec(), **{name: changed}).id != RunSpec().id or changed == item.default
    if item.metadata["high"] is not None:
        assert replace(RunSpec(), **{name: item.metadata["high"]}) != replace(RunSpec(), **{name: item.metadata["low"]})


def test_stored_runs_and_sweeps_keep_their_ids():
    """Settings that were added later do not change the id while they have their defaults."""
    assert RunSpec().id == "phantom_brain-plain5-supervised-bd67991ca7"
    assert RunSpec(model="resnet18", pretrained="hub").id == "phantom_brain-resnet18-supervised-4f5a98dc83"
    assert Sweep(DistillSpec(), {"depth": (3, 5)}).id == "phantom_brain-depth-cf95249b12"


def test_method_settings_change_the_id_and_their_order_does_not():
    assert RunSpec(method_args={"a": 1, "b": 2}).id == RunSpec(method_args={"b": 2.0, "a": 1.0}).id
    assert RunSpec(method_args={"a": 1}).id != RunSpec(method_args={"a": 2}).id


@pytest.mark.parametrize(("change", "words"), [
    ({"epochs": 0}, "epochs must be between 1 and 1000, not 0"),
    ({"seed": -1}, "seed must be between 0 and 2147483647, not -1"),
    ({"epochs": True}, "epochs must be a whole number, not True"),
    ({"epochs": 2.5}, "epochs must be a whole number"),
    ({"epochs": float("inf")}, "epochs must be a whole number"),
    ({"epochs": "5"}, "epochs must be a whole number"),
    ({"model": 5}, "model must be text"),
    ({"weight_decay": False}, "weight_decay must be a number, not False"),
    ({"method_args": {"alpha": True}}, "finite"),
    ({"method_args": {"alpha": "1"}}, "finite"),
    ({"data_fraction": 0.0}, "data_fraction must be between"),
    ({"learning_rate": float("nan")}, "learning_rate must be between"),
    ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"method_args": {"alpha": float("inf")}}, "finite"),
    ({"mask_net_depth": 6}, "mask_net_depth must be between 0 and 5"),
    ({"mask_fill": "blurred"}, "Did you mean 'blur'"),
])
def test_values_out_of_range_are_refused_with_the_way_out(change, words):
    with pytest.raises(UsageError, match=words):
        RunSpec(**change)


@pytest.mark.parametrize(("given", "plain"), [
    ({"weight_decay": 0}, {"weight_decay": 0.0}),
    ({"weight_decay": -0.0}, {"weight_decay": 0.0}),
    ({"learning_rate": np.float64(0.01)}, {"learning_rate": 0.01}),
    ({"augmentation": np.float32(0.5)}, {"augmentation": 0.5}),
    ({"data_fraction": np.int64(1)}, {"data_fraction": 1.0}),
    ({"epochs": 5.0}, {"epochs": 5}),
    ({"depth": np.int64(3)}, {"depth": 3}),
    ({"model": np.str_("resnet18")}, {"model": "resnet18"}),
    ({"method_args": {"alpha": 1, "beta": np.float32(0.5), "gamma": -0.0}},
     {"method_args": {"alpha": 1.0, "beta": 0.5, "gamma": 0.0}}),
])
def test_equal_specs_have_equal_ids_however_their_numbers_were_written(given, plain):
    spec, usual = RunSpec(**given), RunSpec(**plain)
    assert spec == usual
    assert json.dumps(spec.to_json()) == json.dumps(usual.to_json())
    assert (spec.id, hash(spec)) == (usual.id, hash(usual))
    for name in given:
        assert type(getattr(spec, name)) is type(getattr(RunSpec(), name))


def test_requests_and_sweeps_that_are_equal_are_written_alike():
    assert json.dumps(asdict(DistillSpec(augmentation=1, epochs=np.int64(4)))) == json.dumps(
        asdict(DistillSpec(augmentation=1.0, epochs=4)))
    one = Sweep(DistillSpec(equal_steps=0), {"depth": (np.int64(3), 4.0), "alpha": (1, np.float32(0.5))})
    other = Sweep(DistillSpec(), {"depth": (3, 4), "alpha": (0.5, 1.0)})
    assert one == other and one.id == other.id


def test_a_field_of_another_version_is_named():
    with pytest.raises(UsageError, match="Unknown setting 'epoch'. Did you mean 'epochs'"):
        RunSpec.from_json({"epoch": 3})


def test_ids_are_readable_and_safe_as_folder_names():
    spec = RunSpec(data="/home/ä b/Brain Tumor (2).zip", model="densenet121.tv_in1k", method="kd")
    assert spec.id.startswith("brain_tumor_2-densenet121_tv_in1k-kd-")
    assert RunSpec(data="/höhle/ß").id.startswith("x-plain5-")


def test_labels_say_the_depth():
    assert RunSpec(depth=7).model_label == "plain7"
    assert RunSpec(model="truncated", base="resnet18", depth=2).model_label == "resnet18-first2"


def test_labels_say_that_a_student_stands_behind_an_explainer():
    assert RunSpec(depth=7, mask_net_depth=1).model_label == "explained-plain7"
    assert RunSpec(model="densenet121", mask_net_depth=3).id.startswith("phantom_brain-explained_densenet121-")


def test_a_student_alone_is_the_same_without_an_explainer():
    bare = RunSpec(seed=3, depth=7)
    behind = replace(bare, mask_net_depth=3, mask_net_width=6, mask_fill="blur")
    assert behind.without_mask_net == bare.without_mask_net == bare
    assert behind.without_mask_net.id == bare.id != behind.id
