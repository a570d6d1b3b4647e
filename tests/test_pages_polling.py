"""What pages that poll share: figures are made once for all who look."""

from fabricate import epochs, trio

from kd.store.runs import Store


def test_figures_are_made_once_per_epoch_for_all_who_look():
    from pages.parts.distill import progress

    _, _, student = trio(Store())
    found = progress.find(Store(), student.id)
    seen = tuple(run.epochs()[-1]["time"] for run in found.runs)
    first = progress._figure(found, seen)
    assert progress._figure(progress.find(Store(), student.id), seen) is first
    epochs(student, 1)
    assert progress._figure(found, (*seen[:2], student.events()[-1]["time"])) is not first
