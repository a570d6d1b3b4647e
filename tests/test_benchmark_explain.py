import pytest
import torch

from benchmarks import explain, explained
from benchmarks import ratios as timing
from benchmarks.explain import FAMILY, FOUR, OURS, STAGES, STUDENT, Logits, contestants, goals, main
from benchmarks.explained import BOTH, LABEL, Beside
from benchmarks.ratios import Ratio, ratios
from kd.explainers import EXPLAINERS
from kd.models import build
from kd.spec import RunSpec


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_measures_every_contestant_and_prints_the_protocol(capsys):
    measured = main(["--models", "test_resnet", STUDENT, "--size", "32", "--rounds", "2", "--threads", "1"])
    assert list(measured["maps"]) == ["test_resnet", STUDENT]
    for seen in measured["maps"].values():
        assert list(seen) == [1, 8]
        for found in seen.values():
            assert {(method, tool) for method in FAMILY for tool in (OURS, "grad-cam")} <= found.keys()
            assert found.keys() >= {("Grad-CAM", "torchcam"), ("Grad-CAM", "captum"), (FOUR, OURS), (STAGES, OURS)}
            assert all(0 < one.low <= one.median <= one.high for one in found.values())
    assert [(one.teacher, one.size, one.batch) for one in measured["masks"]] == [("test_resnet", 32, 1),
                                                                                 ("test_resnet", 32, 8)]
    for one in measured["masks"]:
        assert one.forward.keys() == one.grad_cam.keys() == {BOTH, LABEL}
        assert all(0 < ratio.low <= ratio.median <= ratio.high for ratio in (*one.forward.values(),
                                                                             *one.grad_cam.values()))
        assert one.flops > 0
    said = capsys.readouterr().out
    for word in ("2 rounds", "1 threads", f"torch {torch.__version__}", "32 px", "grad-cam 1.", "at most 2.10",
                 "test_resnet, 32, 8", "at most 0.10 × the FLOPs"):
        assert word in said


@pytest.mark.filterwarnings("ignore")
def test_the_contestants_explain_the_same():
    """Else their times could not be compared: all Grad-CAMs agree up to each package's scaling."""
    model = build(RunSpec(model="test_resnet", image_size=64, seed=3), 4).eval().requires_grad_(False)
    images, targets = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1])
    calls = contestants(model, images, targets)
    ours = calls["Grad-CAM", OURS]().scaled()
    [torchcam] = calls["Grad-CAM", "torchcam"]()
    captum = calls["Grad-CAM", "captum"]()[:, 0].detach()
    torch.testing.assert_close(torchcam, ours, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(explain.EXPLAINERS["grad-cam"](model, images, targets).values, captum, rtol=1e-3,
                               atol=1e-6)
    package = torch.from_numpy(calls["Grad-CAM", "grad-cam"]())
    small = torch.nn.functional.adaptive_avg_pool2d(package, ours.shape[-2:])
    assert torch.corrcoef(torch.stack([small.flatten(), ours.flatten()]))[0, 1] > 0.95
    assert len(calls[FOUR, OURS]()) == len(calls[FOUR, "grad-cam"]()) == 4


def test_peers_never_get_our_model():
    model = build(RunSpec(model="plain", depth=2, width=4, image_size=32), 4).eval().requires_grad_(False)
    wrapped = Logits(model)
    assert not {id(one) for one in wrapped.modules()} & {id(one) for one in model.modules()}
    assert wrapped.layer(-2) is wrapped.model.layers[-2]
    assert EXPLAINERS["grad-cam"](model, torch.rand(1, 3, 32, 32), torch.tensor([0])).values.shape[0] == 1


def test_a_ratio_is_taken_within_its_round_what_is_short_is_repeated_and_the_first_time_does_not_count(monkeypatch):
    clocks = {"explain": iter([50.0, 3.0, 6.0]), "forward": iter([0.01, *[0.5, 1.5, 1, 1, 1], *[2.0] * 5])}
    monkeypatch.setattr(timing, "seconds", lambda call: next(clocks[call()]))
    [found] = ratios(lambda: "forward", {("x", OURS): lambda: "explain"}, rounds=2).values()
    assert found == Ratio(3.0, 3.0, 3.0)


def test_a_missed_goal_is_said():
    def results(cam):
        return {STUDENT: {1: {("Grad-CAM", OURS): Ratio(cam, cam, cam), (FOUR, OURS): Ratio(2, 2, 2),
                              (STAGES, OURS): Ratio(1, 1, 1)}}}

    assert not any(line.startswith("MISSED") for line in goals(results(1.05)))
    assert sum(line.startswith("MISSED") for line in goals(results(1.2))) == 2


def test_a_missed_goal_of_the_explained_student_is_said():
    def beside(flops, time):
        ratio = {BOTH: Ratio(time, time, time)}
        return [Beside("resnet18", 96, 1, ratio, ratio, flops)]

    assert not any(line.startswith("MISSED") for line in explained.goals(beside(0.08, 0.2)))
    [missed] = [line for line in explained.goals(beside(0.12, 0.2)) if line.startswith("MISSED")]
    assert "FLOPs" in missed and "0.12" in missed
    assert "Grad-CAM" in next(line for line in explained.goals(beside(0.08, 0.6)) if line.startswith("MISSED"))


def test_the_explained_student_is_the_one_that_a_person_is_offered():
    about = explained.student(96)
    assert (about.model, about.depth, about.mask_net_depth, about.image_size) == ("plain", 5, 3, 96)
