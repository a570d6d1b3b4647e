import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from small import distilled, small_data, spec, trained

from kd.errors import UsageError
from kd.evaluation import predict
from kd.models import weights
from kd.store import probe_images
from kd.store.runs import Store
from kd.torch_utils import compute
from kd.torch_utils.compute import computing_threads
from kd.training import loop as engine
from kd.training.loop import Stopped, learning_rate, train
from kd.training.precision import resolve_precision


@pytest.fixture
def store():
    return Store()


def content(run):
    return run.weights.read_bytes()


def test_a_finished_run_has_everything_its_folder_promises(store):
    run = trained(store)
    summary = run.summary
    assert run.status == "finished"
    assert len(run.epochs()) == 2
    assert 0 <= summary["accuracy"] <= 1
    assert summary["parameters"] > 0
    assert summary["classes"] == ["glioma", "meningioma", "notumor", "pituitary"]
    assert run.evaluation["accuracy"] == summary["accuracy"]
    assert not run.resume_state.exists()
    epoch, maps = probe_images.latest_maps(run)
    assert epoch == 1
    assert len(maps) == 2
    started = run.last_event("started")
    assert started["threads"] == torch.get_num_threads()
    assert started["precision"] == summary["precision"] == resolve_precision(run.spec)
    assert [epoch["threads"] for epoch in run.epochs()] == [[started["threads"]]] * 2
    assert summary["threads"] == [started["threads"]]
    assert set(run.epochs()[0]["terms"]) == {"hard"}


def test_the_same_spec_gives_the_same_weights_and_another_seed_does_not(tmp_path):
    from kd.paths import Paths

    one, two = (trained(Store(Paths(tmp_path / name))) for name in ("one", "two"))
    other = trained(Store(Paths(tmp_path / "one")), seed=1)
    assert content(one) == content(two)
    assert content(one) != content(other)


def stop_after(batches):
    count = iter(range(10**9))
    return lambda: next(count) >= batches


@pytest.mark.parametrize("batches", [1, 7, 12])
def test_a_run_stopped_anywhere_resumes_to_the_same_weights(tmp_path, batches):
    from kd.paths import Paths

    whole = trained(Store(Paths(tmp_path / "whole")), epochs=3)
    broken = Store(Paths(tmp_path / "broken"))
    run = broken.create(spec(epochs=3))
    with pytest.raises(Stopped):
        train(run, broken, stop_after(batches))
    assert run.status == "interrupted"
    train(run, broken)
    assert content(run) == content(whole)
    assert [event["loss"] for event in run.epochs()] == [event["loss"] for event in whole.epochs()]


def test_an_explained_student_stopped_anywhere_resumes_to_the_same_weights(store):
    whole = distilled(store, method="medtex", epochs=3).student
    wanted, losses, settings = content(whole), [event["loss"] for event in whole.epochs()], whole.spec
    for batches in (1, 9):
        store.delete(whole.id)
        run = store.create(settings)
        with pytest.raises(Stopped):
            train(run, store, stop_after(batches))
        train(run, store)
        assert content(run) == wanted
        assert [event["loss"] for event in run.epochs()] == losses


def test_an_explained_student_says_what_its_masks_come_to(store):
    trio = distilled(store, method="medtex")
    areas = [event["mask_area"] for event in trio.student.epochs()]
    assert len(areas) == 2
    told = trio.student.summary["mask"]
    assert [*areas, told["area"]] == pytest.approx([0.1] * 3, abs=0.01)
    assert set(told) == {"area", "area_sd", "alike", "collapsed", "fill_only", "majority", "leak"}
    labels = small_data(store.paths).test.labels
    shares = np.bincount(labels) / len(labels)
    assert np.isclose(shares, told["fill_only"]).any(), "to the mean image it has one answer"
    assert told["majority"] == pytest.approx(shares.max()) and told["leak"] == ""
    assert probe_images.load_masks(trio.student).shape == probe_images.load_images(trio.student)[0].shape[:3]
    assert [epoch for epoch, _ in probe_images.maps_over_epochs(trio.student, 0)] == [0, 1]
    assert "mask" not in trio.control.summary
    assert "mask_area" not in trio.control.epochs()[0]
    assert probe_images.load_masks(trio.control) is None


def test_the_kept_epoch_is_the_best_on_validation(store):
    run = trained(store, epochs=6)
    scores = [(event["val_macro_f1"], -event["val_loss"]) for event in run.epochs()]
    assert run.summary["best_epoch"] == scores.index(max(scores))


@pytest.mark.parametrize(("warmup_fraction", "first"), [(0.5, 2), (0.6, 3), (1.0, 5)])
def test_the_best_is_chosen_among_the_epochs_after_the_method_has_settled(store, monkeypatch, warmup_fraction, first):
    from kd.methods import METHODS

    monkeypatch.setattr(METHODS["supervised"], "warmup_fraction", warmup_fraction)
    run = trained(store, epochs=6)
    scores = [(event["val_macro_f1"], -event["val_loss"]) for event in run.epochs()][first:]
    assert run.summary["best_epoch"] == first + scores.index(max(scores))


def test_training_learns(store):
    run = trained(store, data="phantom-brain:count=120,difficulty=0", epochs=20, width=8, depth=3, learning_rate=5e-3)
    losses = [event["loss"] for event in run.epochs()]
    assert losses[-1] < 0.7 * losses[0]


def test_a_student_logs_both_terms_and_leaves_its_teacher_alone(store):
    trio = distilled(store)
    before = content(trio.teacher)
    assert set(trio.student.epochs()[0]["terms"]) == {"hard", "soft"}
    assert content(trio.teacher) == before
    assert content(trio.student) != content(trio.control)


def test_alpha_one_is_the_control(store):
    trio = distilled(store, method_args={"alpha": 1.0})
    assert content(trio.student) == content(trio.control)


def test_the_teacher_must_be_finished_and_know_the_classes(store):
    teacher = store.create(spec(seed=5))
    student = store.create(spec(method="kd", teacher=teacher.id))
    with pytest.raises(UsageError, match=r"is planned, not finished\. Train it to its end first"):
        train(student, store)
    fundus = trained(store, data="phantom-fundus:count=60")
    with pytest.raises(UsageError, match="knows the classes cataract"):
        train(store.create(spec(method="kd", teacher=fundus.id)), store)
    with pytest.raises(UsageError, match="needs a teacher"):
        train(store.create(spec(method="kd")), store)


def test_a_data_set_that_changed_is_refused(store):
    with pytest.raises(UsageError, match="has changed since this run was planned"):
        train(store.create(spec(data_fingerprint="0000")), store)


def test_divergence_is_said_in_words(store, monkeypatch):
    from kd.methods import METHODS

    monkeypatch.setattr(METHODS["supervised"], "forward",
                        lambda self, student, teacher, target, progress: {"hard": student.logits.sum() * math.inf})
    with pytest.raises(UsageError, match="Lower the learning rate"):
        train(store.create(spec()), store)


def test_a_device_that_is_not_there_is_said_in_words(store):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device, so asking for one is right")
    with pytest.raises(UsageError, match="Try device=auto"):
        train(store.create(spec(device="cuda")), store)


def test_bfloat16_trains_and_stores_full_precision(store):
    run = trained(store, precision="bf16-mixed")
    assert run.summary["precision"] == "bf16-mixed"
    model = predict.load(run, 4)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_data_fraction_shows_fewer_images(store):
    whole, part = trained(store, epochs=1), trained(store, epochs=1, data_fraction=0.5)
    assert part.epochs()[0]["loss"] != whole.epochs()[0]["loss"]


def test_stored_weights_are_what_was_evaluated(store):
    run = trained(store)
    model = predict.load(run, 4)
    assert not model.training
    weights.save(model, run.path / "again.safetensors")
    again = predict.evaluate(run, store)
    assert again["accuracy"] == run.summary["accuracy"]


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_schedules_end_near_zero_and_peak_at_the_peak(schedule):
    rates = [learning_rate(step, 100, 0.1, schedule) for step in range(100)]
    assert max(rates) == pytest.approx(0.1, rel=0.03)
    assert rates[-1] < 0.001
    assert rates.index(max(rates)) == pytest.approx(20 if schedule == "one-cycle" else 0, abs=1)


def computed_on(monkeypatch):
    """On how many threads torch computes, noted at every epoch."""
    seen, epoch = [], engine._train_epoch

    def noted(*args):
        seen.append(torch.get_num_threads())
        return epoch(*args)

    monkeypatch.setattr(engine, "_train_epoch", noted)
    return seen


def test_the_number_of_threads_is_chosen_once_and_recorded(store, monkeypatch):
    seen, asked = computed_on(monkeypatch), iter(range(2, 100))
    monkeypatch.setattr(compute, "cores", lambda: next(asked))  # another number at every look
    run = trained(store)
    assert seen == [run.last_event("started")["threads"]] * 2
    assert run.summary["threads"] == [seen[0]]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("cores", "then"), [(8, 2), (1, 1)])
def test_a_resume_takes_the_recorded_number_of_threads_where_it_can(store, monkeypatch, cores, then):
    seen = computed_on(monkeypatch)
    monkeypatch.setattr(compute, "cores", lambda: 2)
    run = store.create(spec(epochs=3))
    with computing_threads(1):
        with pytest.raises(Stopped):
            train(run, store, stop_after(6))
        monkeypatch.setattr(compute, "cores", lambda: cores)
        train(run, store)
    assert {2, then} == set(seen) == set(run.summary["threads"])
    assert seen[-1] == then


def test_a_fresh_start_forgets_the_threads_of_what_was_not_saved(store, monkeypatch):
    monkeypatch.setattr(compute, "cores", lambda: 2)
    run = store.create(spec())
    run.log("started", threads=1)
    with computing_threads(1):
        train(run, store)
    assert run.summary["threads"] == [2]


class _Elsewhere(Exception):
    pass


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_a_resumed_optimizer_has_its_state_where_its_parameters_are(store, monkeypatch):
    """The meta device stands for a GPU: a fused optimizer cannot step when the two are apart."""
    run = store.create(spec(epochs=3))
    with pytest.raises(Stopped):
        train(run, store, stop_after(6))
    assert run.resume_state.exists()

    def look(arms, *_):
        state = arms.optimizer.optimizer.state
        assert state
        for parameter, moments in state.items():
            assert {parameter.device.type, *(value.device.type for value in moments.values())} == {"meta"}
        raise _Elsewhere

    def to_meta(_, moved):
        torch.__future__.set_swap_module_params_on_conversion(True)  # else they would be other parameters afterwards
        try:
            return moved.to("meta")
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    monkeypatch.setattr(engine, "_train_epoch", look)
    monkeypatch.setattr(Fabric, "to_device", to_meta)
    with pytest.raises(_Elsewhere):
        train(run, store)


def test_a_number_of_threads_of_ones_own_holds_and_is_given_back(store, monkeypatch):
    monkeypatch.setattr(compute, "cores", lambda: 4)
    run = trained(store, threads=2)
    assert run.summary["threads"] == [2]
    assert torch.get_num_threads() == 1
