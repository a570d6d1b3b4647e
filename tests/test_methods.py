import pytest
import torch
from torch.nn import functional as F

from kd.errors import UsageError
from kd.methods import METHODS, build, complete
from kd.observation import Observation


def observe(seed: int, requires_grad: bool = False, classes: int = 4) -> Observation:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, classes, generator=source, dtype=torch.float64)
    stages = tuple(torch.randn(8, c, s, s, generator=source, dtype=torch.float64) for c, s in ((4, 8), (8, 4)))
    return Observation(logits.requires_grad_(requires_grad), stages)


def lesson(seed: int, classes: int = 4) -> dict[str, torch.Tensor]:
    return {"logits": observe(seed, classes=classes).logits}


TARGET = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_finite_weighted_terms_with_a_gradient(name):
    method, student = build(name, {}), observe(1, requires_grad=True)
    terms = method(student, lesson(2) if method.needs_teacher else {}, TARGET)
    loss = sum(terms.values())
    (gradient,) = torch.autograd.grad(loss, student.logits)
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    assert gradient.abs().sum() > 0
    again = method(student, lesson(2) if method.needs_teacher else {}, TARGET)
    assert all(torch.equal(terms[key], again[key]) for key in terms)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_documented(name):
    facts = METHODS[name].facts
    assert facts.title
    assert facts.summary.endswith(".")
    assert METHODS[name].__doc__
    for knob in facts.knobs.values():
        assert knob.low <= knob.default <= knob.high
        assert knob.help


def test_kd_is_the_paper_s_formula():
    student, teacher, alpha, heat = observe(1), observe(2), 0.4, 5.0
    terms = build("kd", {"alpha": alpha, "temperature": heat})(student, {"logits": teacher.logits}, TARGET)
    p, q = (torch.softmax(o.logits / heat, 1) for o in (teacher, student))
    soft = (p * (p.log() - q.log())).sum(1).mean()
    assert terms["hard"].item() == pytest.approx(alpha * F.cross_entropy(student.logits, TARGET).item(), rel=1e-12)
    assert terms["soft"].item() == pytest.approx((1 - alpha) * heat**2 * soft.item(), rel=1e-12)


def test_kd_with_alpha_one_is_the_control():
    student = observe(1)
    total = sum(build("kd", {"alpha": 1.0})(student, lesson(2), TARGET).values())
    assert total.item() == build("supervised", {})(student, {}, TARGET)["hard"].item()


def test_a_student_that_is_its_teacher_has_no_soft_loss():
    student = observe(1)
    assert build("kd", {})(student, {"logits": student.logits}, TARGET)["soft"].item() == pytest.approx(0, abs=1e-12)


def test_kd_gradient_agrees_with_finite_differences():
    student, teacher = observe(1, requires_grad=True), observe(2)
    method = build("kd", {"alpha": 0.3, "temperature": 3.0})
    said = {"logits": teacher.logits}
    assert torch.autograd.gradcheck(
        lambda logits: sum(method(Observation(logits, ()), said, TARGET).values()), (student.logits,))


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
