"""Every method on pairs of real models, and in real runs."""

from functools import cache

import pytest
import torch
from made_outputs import TEACHING, taught
from small import DATA, explainer_of, spec, trained

from kd import datasets
from kd.jobs.queue import execute
from kd.methods import build as build_method
from kd.models import build, stage_shapes
from kd.models.weights import load
from kd.observation import select_output
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.training.loop import Stopped, train

STUDENTS = {**{f"plain of {depth}": {"model": "plain", "depth": depth, "width": 4} for depth in (1, 3, 5, 12)},
            "truncated": {"model": "truncated", "base": "test_resnet", "depth": 2}, "timm": {"model": "test_resnet"},
            "another head": {"model": "test_convnext"}}
TEACHERS = ("test_resnet", "test_convnext", "mobilenetv3_small_050")  # the last two have more than a linear layer
# Every kind of student and of teacher beside one of the other; all combinations before a release.
PAIRS = [pytest.param(student, teacher, marks=() if student == "truncated" or teacher == "test_resnet" else
                      pytest.mark.slow) for student in STUDENTS for teacher in TEACHERS]
IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 0])


@cache
def model(**settings):
    made = RunSpec(image_size=64, **settings)
    torch.set_num_threads(1)
    return build(made, 3), stage_shapes(made, 3)


def states(net):
    return [value.clone() for value in (*net.parameters(), *net.buffers())]


@pytest.mark.parametrize("name", TEACHING)
@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_every_pair_of_models_gives_finite_terms_that_reach_the_first_layer(name, teacher, student):
    (ours, own), (theirs, others) = model(**STUDENTS[student], **explainer_of(name)), model(model=teacher, seed=1)
    theirs.requires_grad_(False).eval()
    before = states(theirs)
    torch.manual_seed(0)
    method = build_method(name, {})
    method.setup(own, others)
    with torch.no_grad():
        shown = theirs(IMAGES, cams="cams" in method.teacher_outputs)
    outputs = {want: select_output(shown, want) for want in method.teacher_outputs}
    ours.requires_grad_(True).train()
    seen = ours(IMAGES, **method.train().forward_kwargs(0.5))
    if method.needs_mask_net:
        outputs["mask_target"] = torch.rand(len(IMAGES), 8, 8)
    terms = method(seen, outputs, TARGET, 0.5)
    assert len(terms) > 1
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    first = [next(ours.parameters()), *([ours.mask_net.score.weight] if method.needs_mask_net else ())]
    learnt = torch.autograd.grad(taught(terms), [*first, *method.parameters()])
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in learnt)
    assert not any(outputs[want].requires_grad for want in method.teacher_outputs)
    assert all(map(torch.equal, states(theirs), before))
    assert all(weight.grad is None for weight in theirs.parameters())


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A store with a finished teacher."""
    store = Store(Paths(tmp_path_factory.mktemp("school")))
    return store, trained(store, model="test_resnet", data_fingerprint=datasets.fingerprint(DATA, store.paths))


def student_of(school, name, **changes):
    store, teacher = school
    return store.create(spec(method=name, teacher=teacher.id, **explainer_of(name), **changes))


@pytest.mark.parametrize("name", TEACHING)
def test_every_method_trains_a_student_that_is_the_student_alone(school, name):
    store, teacher = school
    before = teacher.weights.read_bytes()
    run = student_of(school, name)
    assert execute(run, store) == "finished", run.failure_reason
    first, last = run.epochs()
    assert first["terms"].keys() == last["terms"].keys() > {"hard"}
    assert last["loss"] == pytest.approx(sum(last["terms"].values()))
    load(build(run.spec, 4), run.weights)  # refuses keys that are not the model's
    assert teacher.weights.read_bytes() == before


def projector(run):
    return torch.load(run.resume_state, weights_only=True)["method"]


def test_a_projector_learns_and_an_interrupted_run_goes_on_with_it(school):
    store, _ = school
    broken = student_of(school, "fitnet", epochs=3)
    seen = []
    for done in (1, 2):
        with pytest.raises(Stopped):
            train(broken, store, lambda done=done: len(broken.epochs()) >= done)
        seen.append(projector(broken))
    assert seen[0].keys() == seen[1].keys() > {"projector.0.weight", "projector.1.running_mean"}
    assert not torch.equal(seen[0]["projector.0.weight"], seen[1]["projector.0.weight"])
    train(broken, store)
    weights, losses = broken.weights.read_bytes(), [event["loss"] for event in broken.epochs()]
    store.delete(broken.id)
    whole = student_of(school, "fitnet", epochs=3)
    assert execute(whole, store) == "finished", whole.failure_reason
    assert whole.weights.read_bytes() == weights
    assert [event["loss"] for event in whole.epochs()] == losses
