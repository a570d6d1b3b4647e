"""What holds for every method, and what its settings are."""

import pytest
import torch
from made_outputs import (
    OF_THE_MASK,
    TARGET,
    TEACHING,
    THEIRS,
    answers,
    leaves,
    observe,
    of_leaves,
    outputs,
    ready,
    taught,
    terms,
)
from torch.nn import functional as F

from kd.errors import UsageError
from kd.methods import METHODS, build, check, complete, learns_unlabelled, require_logits_only, require_mixup
from kd.observation import Observation

SAME = [name for name in TEACHING if name != "fitnet"]  # a projector must learn first that nothing is to be done
ON_TWO = [name for name in TEACHING if not METHODS[name].info.multiclass_only]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_documented(name):
    facts = METHODS[name].info
    assert facts.title
    assert facts.summary.endswith(".")
    assert METHODS[name].__doc__
    assert not METHODS[name].needs_teacher or "arXiv" in facts.paper
    assert not facts.multiclass_only or facts.binary_note
    for knob in facts.hyperparameters.values():
        assert knob.low <= knob.default <= knob.high
        assert knob.help


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch", [2, 8])
def test_every_method_gives_finite_weighted_terms_and_the_same_again(name, batch):
    student, teacher = observe(1, batch=batch), observe(2, batch=batch, stages=THEIRS)
    found, again = (terms(name, student, teacher) for _ in range(2))
    assert next(iter(found)) == "hard"
    assert all(term.ndim == 0 and term.isfinite() and term >= 0 for term in found.values())
    assert all(torch.equal(found[key], again[key]) for key in found)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_agree_with_finite_differences(name):
    student, teacher = observe(1, batch=3, stages=((3, 4), (4, 2)), grad=True), observe(2, batch=3, stages=THEIRS)
    method = ready(name, student, teacher)

    def loss(*parts):
        seen = of_leaves(student, parts)
        return sum(method(seen, outputs(method, teacher), TARGET[:3], 0.05).values())

    used = leaves(student) if method.needs_mask_net else leaves(student)[:-len(student.mask_samples)]
    assert torch.autograd.gradcheck(lambda *parts: loss(*parts, *leaves(student)[len(parts):]), used)


@pytest.mark.parametrize("name", TEACHING)
def test_a_method_uses_the_teacher_outputs_that_it_names_and_no_more(name):
    student, teacher = observe(1), observe(2, stages=THEIRS)
    method = ready(name, student, teacher)
    said = outputs(method, teacher)
    assert method(student, said, TARGET, 1.0)
    for missing in said:
        with pytest.raises(KeyError):
            method(student, {key: value for key, value in said.items() if key != missing}, TARGET, 1.0)
    cams, drawn = student.cams if method.needs_cams else None, student.mask_samples if method.needs_mask_net else None
    assert method(Observation(student.logits, student.stages, cams, mask_samples=drawn), said, TARGET, 1.0)


@pytest.mark.parametrize("name", SAME)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(name):
    student = observe(1, grad=True)
    teacher = Observation(student.logits.detach(), tuple(maps.detach() for maps in student.stages),
                          student.cams.detach())
    if METHODS[name].needs_mask_net:  # it answers so whatever the mask leaves of a picture
        student = student._replace(
            mask_samples=student.mask_samples._replace(answers=teacher.logits.clone().requires_grad_())
        )
    left = taught({key: term for key, term in terms(name, student, teacher).items() if key not in OF_THE_MASK})
    assert left.item() == pytest.approx(0, abs=1e-9)
    found = torch.autograd.grad(left, leaves(student), allow_unused=True)
    assert all(gradient.abs().max() < 1e-6 for gradient in found if gradient is not None)


def test_a_hint_is_nothing_where_the_projector_changes_nothing():
    student = observe(1)
    method = ready("fitnet", student, student).eval()
    convolution, norm = method.projector
    norm.eps = 0.0
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(len(convolution.weight), dtype=torch.float64)[:, :, None, None])
    assert method(student, outputs(method, student), TARGET, 1.0)["fitnet"].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", TEACHING)
def test_without_its_weight_only_the_labels_are_left(name):
    weights = {"kd": {"alpha": 1.0}, "dkd": {"target_weight": 0.0, "non_target_weight": 0.0},
               "medtex": {"alpha": 1.0, "target_weight": 0.0}}
    student, teacher = observe(1), observe(2, stages=THEIRS)
    found = terms(name, student, teacher, **weights.get(name, {"weight": 0.0}))
    share = {"logit-std": 0.1, "e2kd": 0.1}.get(name, 1.0)
    assert taught({**found, "soft": torch.zeros(())} if name == "e2kd" else found).item() == 0
    said, target = (answers(student), TARGET.repeat(2)) if METHODS[name].needs_mask_net else (student.logits, TARGET)
    assert found["hard"].item() == pytest.approx(share * F.cross_entropy(said, target).item(), rel=1e-12)


def same_answer_everywhere(seen):
    samples = seen.mask_samples
    return seen._replace(logits=seen.logits * 0 + 0.3, mask_samples=samples._replace(answers=samples.answers * 0 + 0.3))


def nothing_seen(seen):
    scores, said = seen.mask_samples
    return Observation(
        seen.logits,
        tuple(maps * 0 for maps in seen.stages),
        seen.cams * 0,
        mask_samples=seen.mask_samples._replace(scores=scores * 0, answers=said),
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spoilt", [same_answer_everywhere, nothing_seen])
@pytest.mark.parametrize("who", ["student", "teacher", "both"])
def test_blank_maps_and_even_logits_give_finite_losses_and_gradients(name, spoilt, who):
    student, teacher = observe(1, grad=True), observe(2, stages=THEIRS)
    seen = spoilt(student) if who != "teacher" else student
    found = terms(name, seen, spoilt(teacher) if who != "student" else teacher)
    assert all(term.isfinite() for term in found.values())
    gradients = torch.autograd.grad(sum(found.values()), leaves(student), allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("name", ON_TWO)
def test_on_two_classes_every_term_that_is_left_teaches_something(name):
    student, teacher = observe(1, classes=2, grad=True), observe(2, classes=2, stages=THEIRS)
    for key, term in terms(name, student, teacher, target=TARGET % 2).items():
        found = torch.autograd.grad(term, leaves(student), allow_unused=True, retain_graph=True)
        assert max(gradient.abs().max().item() for gradient in found if gradient is not None) > 1e-6, key


def test_what_is_said_of_two_classes():
    assert {name for name in METHODS if METHODS[name].info.binary_note} == {"logit-std", "dkd", "dist"}
    assert all(check(name, 3) == "" for name in METHODS)
    assert "one other class only" in check("dkd", 2)
    assert "Two numbers always correlate by 1 or −1" in check("dist", 2)
    with pytest.raises(UsageError, match=r"Standardised logits cannot be had on two classes: .* Choose soft targets"):
        check("logit-std", 2)


@pytest.mark.parametrize(("args", "words"), [
    ({"alfa": 0.5}, "Did you mean 'alpha'"),
    ({"alpha": 1.5}, "alpha must be between 0 and 1, not 1.5"),
    ({"temperature": 0.0}, "temperature must be between"),
])
def test_bad_settings_are_refused(args, words):
    with pytest.raises(UsageError, match=words):
        complete("kd", args)


def test_settings_of_a_method_without_any():
    with pytest.raises(UsageError, match="has no settings"):
        build("supervised", {"alpha": 0.5})


def test_defaults_are_filled_in():
    assert complete("kd", {"alpha": 0.7}) == {"alpha": 0.7, "temperature": 4.0}


def test_the_methods_are_those_people_expect():
    assert {"supervised", "kd", "logit-std", "dkd", "dist", "at", "fitnet", "cat-kd", "e2kd", "sp",
            "medtex"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_which_methods_need_logits_alone(name):
    method = ready(name, observe(1), observe(2, stages=THEIRS))
    assert METHODS[name].needs_logits_only() == (method.teacher_outputs == ("logits",) and not method.needs_mask_net)
    if METHODS[name].needs_logits_only():
        require_logits_only(name)
    else:
        with pytest.raises(UsageError, match="kd, logit-std, dkd, dist"):
            require_logits_only(name)


@pytest.mark.parametrize("name", METHODS)
def test_only_the_hard_loss_and_methods_that_say_so_need_a_label(name):
    """Unlabelled images (−1) leave the mean of the hard loss to the others, and never give NaN; what is learnt from the
    teacher does not depend on a label, unless the method says that it does."""
    student, teacher = observe(1), observe(2, stages=THEIRS)
    other = TARGET.roll(1)
    before, after = terms(name, student, teacher), terms(name, student, teacher, other)
    changed = {key for key in before if key != "hard" and not torch.equal(before[key], after[key])}
    assert bool(changed) == METHODS[name].needs_label
    assert learns_unlabelled(name) == (METHODS[name].needs_teacher and not METHODS[name].needs_label)
    if METHODS[name].needs_label:
        return
    some = TARGET.clone()
    some[[0, 3, 5]] = -1
    found = terms(name, student, teacher, some)
    kept = some >= 0
    seen = answers(student)[kept.repeat(2)] if METHODS[name].needs_mask_net else student.logits[kept]
    weight = before["hard"] / F.cross_entropy(answers(student) if METHODS[name].needs_mask_net else student.logits,
                                              TARGET.repeat(2) if METHODS[name].needs_mask_net else TARGET)
    labels = some[kept].repeat(2) if METHODS[name].needs_mask_net else some[kept]
    assert found["hard"] == pytest.approx((weight * F.cross_entropy(seen, labels)).item())
    assert all(torch.equal(found[key], before[key]) for key in before if key != "hard")
    none = terms(name, observe(1, grad=True), teacher, torch.full_like(TARGET, -1))
    assert none["hard"] == 0
    sum(none.values()).backward()


@pytest.mark.parametrize("name", METHODS)
def test_mixed_images_have_the_labels_of_both_in_their_shares(name):
    if METHODS[name].needs_label or METHODS[name].needs_mask_net:
        with pytest.raises(UsageError, match="Set mixup to 0"):
            require_mixup(name)
        return
    require_mixup(name)
    student, teacher = observe(1), observe(2, stages=THEIRS)
    first, second = (terms(name, student, teacher, target) for target in (TARGET, TARGET.roll(1)))
    shares = 0.25 * F.one_hot(TARGET, 4).float() + 0.75 * F.one_hot(TARGET.roll(1), 4).float()
    mixed = terms(name, student, teacher, shares)
    assert mixed["hard"].item() == pytest.approx(0.25 * first["hard"].item() + 0.75 * second["hard"].item())
    assert all(torch.equal(mixed[key], first[key]) for key in mixed if key != "hard")
    assert terms(name, student, teacher, torch.zeros(8, 4))["hard"] == 0
