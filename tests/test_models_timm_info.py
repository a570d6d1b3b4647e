import pytest

from kd.errors import UsageError
from kd.models import require_cnn
from kd.models.timm_info import reason


@pytest.mark.parametrize(("name", "told"), [
    ("test_vit", "1 of its last tokens belong to no place"), ("crossvit_9_240", "do not lie on a grid"),
    ("resnet19", "Did you mean 'resnet18'"),
    ("tf_efficientnet_b0_ns", "Use 'tf_efficientnet_b0.ns_jft_in1k'"), ("resnet18.nothing", "a1_in1k"),
    ("hf-hub:somebody/resnet18", "Unknown timm model"), ("", "Unknown timm model")])
def test_what_has_no_map_to_explain_is_refused_with_a_sentence(name, told):
    with pytest.raises(UsageError, match=told):
        require_cnn(name)


def test_a_name_with_a_tag_is_accepted():
    assert require_cnn("test_resnet.r160_in1k") is None


@pytest.mark.parametrize(("error", "said"), [
    (AssertionError(), "its windows do not divide the grid"), (ZeroDivisionError(), "ZeroDivisionError"),
    (RuntimeError("The size of tensor a (49) must match the size of tensor b (9)"), "another size"),
    (ValueError("height (24) must be divisible by window (5)\nand more"), "must be divisible by window (5)")])
def test_the_reason_of_an_error_is_a_phrase(error, said):
    assert said in reason(error)
    assert "\n" not in reason(error)
