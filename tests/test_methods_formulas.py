"""Every method's value against its paper's formula, written out image by image in numpy."""

import math

import numpy as np
import pytest
import torch
from made_outputs import TARGET, TEACHING, THEIRS, mask_target, observe, outputs, ready, terms
from torch.distributions import Normal

from kd.methods import METHODS

STUDENT, TEACHER = observe(1), observe(2, stages=THEIRS)
Y = TARGET.numpy()
EVERY = range(len(Y))
ZS, ZT = STUDENT.logits.numpy(), TEACHER.logits.numpy()


def softmax(z, heat=1.0):
    e = np.exp(np.asarray(z) / heat)
    return e / e.sum()


def kl(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def correlation(one, other):
    return np.corrcoef(one, other)[0, 1]


def average(maps, side):
    """Mean over equal blocks of the last two axes."""
    step = maps.shape[-1] // side
    return maps.reshape(*maps.shape[:-2], side, step, side, step).mean(axis=(-3, -1))


HARD = np.mean([-np.log(softmax(ZS[i])[Y[i]]) for i in EVERY])


def kd(alpha, temperature, **_):
    soft = np.mean([kl(softmax(ZT[i], temperature), softmax(ZS[i], temperature)) for i in EVERY])
    return {"hard": alpha * HARD, "soft": (1 - alpha) * temperature**2 * soft}


def kd_standardised(hard_weight, weight, temperature):
    def even(z):
        return (z - z.mean()) / (z.std(ddof=1) + 1e-7)

    soft = np.mean([kl(softmax(even(ZT[i]), temperature), softmax(even(ZS[i]), temperature)) for i in EVERY])
    return {"hard": hard_weight * HARD, "soft": weight * temperature**2 * soft}


def dkd(target_weight, non_target_weight, temperature, warm_up, progress=1.0):
    target, others = [], []
    for i in EVERY:
        p, q = softmax(ZT[i], temperature), softmax(ZS[i], temperature)
        y = Y[i]
        target.append(kl([p[y], 1 - p[y]], [q[y], 1 - q[y]]))
        rest = [k for k in range(4) if k != y]
        others.append(kl(p[rest] / p[rest].sum(), q[rest] / q[rest].sum()))
    scale = min(progress / warm_up, 1) * temperature**2
    return {"hard": HARD, "target": scale * target_weight * np.mean(target),
            "non-target": scale * non_target_weight * np.mean(others)}


def dist(weight, inter, intra, temperature):
    q, p = (np.array([softmax(row, temperature) for row in z]) for z in (ZS, ZT))
    scale = weight * temperature**2
    return {"hard": HARD,
            "inter": scale * inter * (1 - np.mean([correlation(q[i], p[i]) for i in EVERY])),
            "intra": scale * intra * (1 - np.mean([correlation(q[:, k], p[:, k]) for k in range(4)]))}


def at(weight):
    apart = 0.0
    for ours, theirs, side in ((0, 0, 8), (1, 2, 2)):  # grids 8 and 4 against 8, 4 and 2: the last meet, 8 meets 8
        squares = [average((maps.numpy()**2).mean(axis=1), side).reshape(8, -1)
                   for maps in (STUDENT.stages[ours], TEACHER.stages[theirs])]
        a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in squares)
        apart += ((a - b)**2).mean()
    return {"hard": HARD, "attention": weight * apart}


def cat_kd(weight, pool):
    ours, theirs = (average(seen.cams.numpy(), int(pool)) for seen in (STUDENT, TEACHER))
    return {"hard": HARD, "cam": weight * ((ours - theirs)**2).mean()}


def e2kd(alpha, temperature, weight):
    apart = []
    for i in EVERY:
        top = ZT[i].argmax()
        ours, theirs = (average(np.maximum(seen.cams[i, top].numpy(), 0), 2).ravel() for seen in (STUDENT, TEACHER))
        blank = not theirs.any()
        apart.append(0 if blank else 1 - ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs)))
    return {"hard": alpha * HARD, "soft": kd(0.0, temperature)["soft"], "explanation": weight * np.mean(apart)}


def sp(weight):
    similar = []
    for maps in (STUDENT.stages[-1], TEACHER.stages[-1]):
        rows = maps.numpy().reshape(8, -1)
        gram = rows @ rows.T
        similar.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return {"hard": HARD, "similarity": weight * np.linalg.norm(similar[0] - similar[1])**2 / 8**2}


def medtex(alpha, temperature, target_weight, sharpness, **_):
    drawn = STUDENT.mask_samples
    answers = np.concatenate([ZS, drawn.answers.numpy()])  # under its own mask, and under a random part of its ranking
    soft = np.mean([kl(softmax(ZT[n % 8], temperature), softmax(row, temperature)) for n, row in enumerate(answers)])
    wanted, gaps = average(mask_target(8).numpy() ** sharpness, 3), []
    for i in range(1, 8):  # the first image has no target
        q, s = wanted[i].ravel() / wanted[i].sum(), drawn.scores[i].numpy().ravel()
        gaps.append(-(q * np.log(softmax(s))).sum())
    return {"hard": alpha * np.mean([-np.log(softmax(row)[Y[n % 8]]) for n, row in enumerate(answers)]),
            "information": (1 - alpha) * temperature**2 * soft, "target": target_weight * np.mean(gaps)}


FORMULAS = {"kd": kd, "logit-std": kd_standardised, "dkd": dkd, "dist": dist, "at": at, "cat-kd": cat_kd,
            "e2kd": e2kd, "sp": sp, "medtex": medtex}
OTHERS = {
    "kd": {"alpha": 0.4, "temperature": 5.0},
    "logit-std": {"hard_weight": 0.5, "temperature": 3.0},
    "dkd": {"target_weight": 2.0, "non_target_weight": 0.5, "temperature": 1.0},
    "dist": {"weight": 3.0, "inter": 0.5, "intra": 2.0, "temperature": 1.0},
    "at": {"weight": 10.0},
    "cat-kd": {"weight": 0.5, "pool": 1.0},
    "e2kd": {"alpha": 0.7, "temperature": 2.0, "weight": 5.0},
    "sp": {"weight": 7.0},
    "medtex": {"alpha": 0.6, "temperature": 2.0, "target_weight": 3.0, "sharpness": 1.0},
}


@pytest.mark.parametrize("name", sorted({*TEACHING} - {"fitnet"}))
@pytest.mark.parametrize("other", [False, True])
def test_the_value_is_the_papers(name, other):
    knobs = {key: knob.default for key, knob in METHODS[name].info.hyperparameters.items()}
    args = {**knobs, **(OTHERS[name] if other else {})}
    found, expected = terms(name, STUDENT, TEACHER, **args), FORMULAS[name](**args)
    assert {key: term.item() for key, term in found.items()} == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("progress", "share"), [(0.02, 0.25), (0.08, 1.0), (0.5, 1.0)])
def test_decoupled_targets_warm_up_over_a_share_of_the_schedule(progress, share):
    found, whole = (terms("dkd", STUDENT, TEACHER, progress=at_) for at_ in (progress, 1.0))
    assert found["hard"] == whole["hard"]
    assert all(found[key].item() == pytest.approx(share * whole[key].item()) for key in ("target", "non-target"))
    assert torch.equal(terms("dkd", STUDENT, TEACHER, progress=0.01, warm_up=0.0)["target"], whole["target"])


def test_decoupled_targets_stay_exact_where_a_model_is_sure():
    sure = STUDENT._replace(logits=STUDENT.logits + 400 * torch.nn.functional.one_hot(TARGET, 4))
    found = terms("dkd", sure, TEACHER, temperature=1.0)
    assert found["non-target"].item() == pytest.approx(terms("dkd", STUDENT, TEACHER, temperature=1.0)["non-target"])
    assert all(term.isfinite() for term in found.values())


def test_a_hint_is_the_mean_squared_difference_behind_convolution_and_batch_norm():
    method = ready("fitnet", STUDENT, TEACHER, weight=3.0)
    # The first is as near to the middle: then the deeper.
    assert (method.ours, method.teacher_outputs) == (1, ("stage:2",))
    weight = method.projector[0].weight.detach().numpy()[:, :, 0, 0]
    mixed = np.einsum("oc,bchw->bohw", weight, average(STUDENT.stages[1].numpy(), 2))
    mean, var = (getattr(mixed, what)(axis=(0, 2, 3), keepdims=True) for what in ("mean", "var"))
    expected = ((mixed - mean) / np.sqrt(var + 1e-5) - TEACHER.stages[2].numpy())**2
    found = method(STUDENT, outputs(method, TEACHER), TARGET, 1.0)
    assert found["fitnet"].item() == pytest.approx(3 * expected.mean(), rel=1e-10)
    assert found["hard"].item() == pytest.approx(HARD, rel=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [(8, 4), (5, 4), (4, 7), (1, 3), (3, 1)])
def test_a_hint_comes_to_the_teachers_grid(ours, theirs):
    student, teacher = observe(1, stages=((3, ours),)), observe(2, stages=((5, theirs),))
    method = ready("fitnet", student, teacher)
    assert method(student, outputs(method, teacher), TARGET, 1.0)["fitnet"].isfinite()


@pytest.mark.parametrize(("ours", "theirs", "side"), [(4, 4, 2), (4, 1, 1), (1, 4, 1), (3, 5, 2)])
def test_class_maps_meet_on_at_most_the_coarser_grid(ours, theirs, side):
    student, teacher = observe(1, stages=((3, ours),)), observe(2, stages=((5, theirs),))
    pool = torch.nn.AdaptiveAvgPool2d(side)
    expected = 15 * (pool(student.cams) - pool(teacher.cams)).square().mean()
    assert terms("cat-kd", student, teacher)["cam"].item() == pytest.approx(expected.item(), rel=1e-12)


def test_on_two_classes_decoupled_targets_are_soft_targets():
    student, teacher = observe(1, classes=2), observe(2, classes=2, stages=THEIRS)
    found = terms("dkd", student, teacher, target=TARGET % 2, temperature=3.0)
    assert set(found) == {"hard", "target"}
    soft = terms("kd", student, teacher, target=TARGET % 2, alpha=0.0, temperature=3.0)["soft"]
    assert found["target"].item() == pytest.approx(soft.item(), rel=1e-10)


def test_why_two_classes_are_different():
    """The parts that are refused or left out are dead there: the numbers behind the sentences."""
    student, teacher = observe(1, classes=2, grad=True), observe(2, classes=2, stages=THEIRS)
    assert set(terms("dist", student, teacher, target=TARGET % 2)) == {"hard", "intra"}
    p, q = (torch.softmax(seen.logits, 1) for seen in (teacher, student))
    q_even, p_even = (rows - rows.mean(1, keepdim=True) for rows in (q, p))
    within_an_image = torch.nn.functional.cosine_similarity(q_even, p_even, dim=1)
    torch.testing.assert_close(within_an_image.abs(), torch.ones(8, dtype=torch.float64))
    assert torch.autograd.grad(within_an_image.sum(), student.logits)[0].abs().max() < 1e-12
    found = {name: terms(name, student, teacher, target=TARGET % 2)["soft"] for name in ("kd", "logit-std")}
    size = {name: torch.autograd.grad(soft, student.logits)[0].norm() for name, soft in found.items()}
    assert size["logit-std"] < 1e-3 * size["kd"]


def test_a_teacher_without_evidence_teaches_no_place():
    blank = TEACHER._replace(cams=-TEACHER.cams.abs())
    assert terms("e2kd", STUDENT, blank)["explanation"].item() == 0
    nowhere = STUDENT._replace(cams=-STUDENT.cams.abs())
    shown = TEACHER._replace(cams=TEACHER.cams.abs())
    assert terms("e2kd", nowhere, shown)["explanation"].item() == 1


def test_a_mask_network_without_any_target_learns_nothing():
    scores = STUDENT.mask_samples.scores.clone().requires_grad_()
    seen = STUDENT._replace(mask_samples=STUDENT.mask_samples._replace(scores=scores))
    method = ready("medtex", STUDENT, TEACHER)
    given = {**outputs(method, TEACHER), "mask_target": torch.zeros(8, 6, 6, dtype=torch.float64)}
    found = method(seen, given, TARGET)["target"]
    assert found.item() == 0 and (torch.autograd.grad(found, scores)[0] == 0).all()


def test_a_ranking_is_best_where_it_is_the_targets():
    target = mask_target(8) ** 3
    best = torch.nn.functional.adaptive_avg_pool2d(target, 3).clamp_min(1e-9).log()
    worse = terms("medtex", STUDENT._replace(mask_samples=STUDENT.mask_samples._replace(scores=-best)), TEACHER)
    found = terms("medtex", STUDENT._replace(mask_samples=STUDENT.mask_samples._replace(scores=best)), TEACHER)
    shifted = terms("medtex", STUDENT._replace(mask_samples=STUDENT.mask_samples._replace(scores=best + 5)), TEACHER)
    assert found["target"] < min(terms("medtex", STUDENT, TEACHER)["target"], worse["target"])
    assert shifted["target"].item() == pytest.approx(found["target"].item()), "only the order within an image counts"


def test_features_are_foretold_by_a_gaussian_whose_variance_is_learnt():
    method = ready("medtex", STUDENT, TEACHER, features=2.0)
    assert method.teacher_outputs == ("logits", "stage:2")
    assert method.forward_kwargs(0.5)["stages"] and not ready("medtex", STUDENT, TEACHER).forward_kwargs(0.5)["stages"]
    with torch.no_grad():
        method.decoder.log_variance.copy_(torch.linspace(-1, 1, 8))
    ours, theirs = STUDENT.stages[-1], TEACHER.stages[-1]
    guess = method.decoder.mean(torch.nn.functional.interpolate(ours, (2, 2), mode="bilinear"))
    spread = (method.decoder.log_variance.exp() + method.decoder.LEAST).sqrt()[:, None, None]
    expected = -Normal(guess, spread).log_prob(theirs).mean() - math.log(2 * math.pi) / 2
    found = method(STUDENT, outputs(method, TEACHER), TARGET)["features"]
    assert found.item() == pytest.approx(2 * expected.item(), rel=1e-9)
    learnt = torch.autograd.grad(found, list(method.parameters()))
    assert len(learnt) == 3
    assert all((gradient != 0).all() for gradient in learnt)


def test_the_variance_that_a_gaussian_learns_is_that_of_what_it_cannot_foretell():
    method = ready("medtex", STUDENT, TEACHER, features=1.0)
    descent = torch.optim.LBFGS(method.parameters(), max_iter=200)

    def step():
        descent.zero_grad()
        loss = method.decoder(STUDENT.stages[-1], TEACHER.stages[-1])
        loss.backward()
        return loss

    descent.step(step)
    with torch.no_grad():
        guess = method.decoder.mean(torch.nn.functional.interpolate(STUDENT.stages[-1], (2, 2), mode="bilinear"))
        left = (TEACHER.stages[-1] - guess).square().mean(dim=(0, 2, 3))
    torch.testing.assert_close(method.decoder.log_variance.exp().detach() + method.decoder.LEAST, left, rtol=1e-3,
                               atol=1e-4)
