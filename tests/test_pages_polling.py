"""What pages that poll share: figures are made once for all who look."""

from fabricate import epochs, trio

from kd.store.runs import Store


def test_figures_are_made_once_per_epoch_for_all_who_look():
    from pages.parts import live

    _, _, student = trio(Store())
    found = live.find(Store(), student.id)
    seen = tuple(run.epochs()[-1]["time"] for run in found.runs)
    first = live._figure(found, seen)
    assert live._figure(live.find(Store(), student.id), seen) is first
    epochs(student, 1)
    assert live._figure(found, (*seen[:2], student.events()[-1]["time"])) is not first
