"""The public loss functions. That each method's terms are its paper's is tested in test_methods_formulas."""

import inspect

import pytest
import torch
from made_outputs import TARGET, THEIRS, observe, terms
from torch import nn
from torch.nn import functional as F

from kd import losses
from kd.errors import UsageError

STUDENT, TEACHER = observe(1), observe(2, stages=THEIRS)
ZS, ZT = STUDENT.logits, TEACHER.logits
LAST = STUDENT.stages[-1], TEACHER.stages[-1]
MEET = STUDENT.stages, [TEACHER.stages[0], TEACHER.stages[2]]  # as attention transfer pairs them

# By the method that trains with it: the term that its loss function is, at weight 1, and the function's value.
SAME = {
    "kd": ({"alpha": 0.0, "temperature": 5.0}, losses.kd(ZS, ZT, temperature=5.0)),
    "logit-std": ({"weight": 1.0}, losses.logit_std(ZS, ZT)),
    "dkd": ({"target_weight": 1.0, "non_target_weight": 8.0}, losses.dkd(ZS, ZT, TARGET, alpha=1, beta=8)),
    "dist": ({"weight": 1.0, "inter": 0.5, "intra": 2.0}, losses.dist(ZS, ZT, beta=0.5, gamma=2.0)),
    "at": ({"weight": 1.0}, losses.at(*MEET)),
    "sp": ({"weight": 1.0}, losses.sp(*LAST)),
    "cat-kd": ({"weight": 1.0}, losses.cat_kd(STUDENT.cams, TEACHER.cams)),
    "e2kd": ({"weight": 2.0}, losses.kd(ZS, ZT) + 2 * losses.e2kd(STUDENT.cams, TEACHER.cams, ZT)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_method_trains_with_the_function_of_its_name(name):
    args, found = SAME[name]
    expected = sum(value for term, value in terms(name, STUDENT, TEACHER, **args).items() if term != "hard")
    torch.testing.assert_close(found, expected)


def test_a_loss_is_nothing_where_student_and_teacher_agree():
    for found in (losses.kd(ZS, ZS), losses.logit_std(ZS, ZS), losses.dkd(ZS, ZS, TARGET), losses.dist(ZS, ZS),
                  losses.at(STUDENT.stages, STUDENT.stages), losses.sp(LAST[0], LAST[0]),
                  losses.fitnet(STUDENT.stages, STUDENT.stages), losses.cat_kd(STUDENT.cams, STUDENT.cams)):
        assert abs(found.item()) < 1e-12


def test_every_function_teaches_and_says_whose_it_is():
    ours, theirs = observe(3, grad=True), observe(4)
    same = [(losses.kd, (ours.logits, theirs.logits)), (losses.logit_std, (ours.logits, theirs.logits)),
            (losses.dkd, (ours.logits, theirs.logits, TARGET)), (losses.dist, (ours.logits, theirs.logits)),
            (losses.at, (ours.stages, theirs.stages)), (losses.fitnet, (ours.stages, theirs.stages)),
            (losses.sp, (ours.stages, theirs.stages)), (losses.cat_kd, (ours.cams, theirs.cams)),
            (losses.e2kd, (ours.cams, theirs.cams, theirs.logits))]
    assert {function.__name__ for function, _ in same} == {*losses.__all__} - {"attention_map"}
    for function, arguments in same:
        leaf = arguments[0] if isinstance(arguments[0], torch.Tensor) else arguments[0][0]
        loss = function(*arguments)
        assert loss.ndim == 0
        assert torch.autograd.grad(loss, leaf)[0].abs().max() > 0, function.__name__
        assert "arXiv" in inspect.getdoc(function)


def test_a_hint_of_other_channels_asks_for_a_projector_and_learns_it():
    with pytest.raises(UsageError, match=r"torch\.nn\.Conv2d\(6, 8, 1\)"):
        losses.fitnet(*LAST)
    projector = nn.Conv2d(6, 8, 1).double()
    found = losses.fitnet(*LAST, projector)
    expected = F.mse_loss(projector(F.adaptive_avg_pool2d(LAST[0], 2)), LAST[1])
    torch.testing.assert_close(found, expected)
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(found, list(projector.parameters())))


@pytest.mark.parametrize("wrong", [
    lambda: losses.kd(ZS, ZT[:, :3]),
    lambda: losses.dist(ZS[0], ZT[0]),
    lambda: losses.dkd(ZS, ZT, TARGET[:3]),
    lambda: losses.dkd(ZS, ZT, TARGET.float()),
    lambda: losses.at(STUDENT.stages, TEACHER.stages),
    lambda: losses.sp(LAST[0], LAST[1][:4]),
    lambda: losses.sp([], []),
    lambda: losses.fitnet(ZS, ZT),
    lambda: losses.cat_kd(STUDENT.cams, TEACHER.cams[:, :3]),
])
def test_shapes_that_do_not_belong_together_are_refused(wrong):
    with pytest.raises(UsageError, match=r"\[|as many"):
        wrong()


def test_maps_are_averaged_to_the_coarser_grid_and_never_enlarged():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert losses.pooled(maps, 2, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert losses.pooled(maps, 8, 8) is maps
    small, large = losses.to_coarser(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 5, 2))
    assert small.shape == large.shape == (1, 1, 3, 2)
