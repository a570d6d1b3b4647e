"""The audit on the data page: started there, its verdict first, its images on demand."""

import pytest
from made_leaks import make_clean, plant_copies, plant_label
from test_pages_data import page, pictures
from test_pages_home import words

from kd.audit import report
from kd.audit.audit import audit
from kd.datasets import fingerprint
from kd.jobs.queue import queue
from kd.jobs.tasks import status
from kd.paths import default_paths


@pytest.fixture
def leaking(tmp_path):
    root = make_clean(tmp_path / "leaking", 12, 6, 6)
    plant_copies(root)
    plant_label(root)
    return root


def test_an_audit_is_started_on_the_page_and_then_shown(leaking):
    at = page(data=str(leaking), size="28")
    assert "has not been audited" in words(at)
    at.button(key="audit_start").click().run()
    assert not at.error
    assert queue(default_paths()).join(120)
    owner = report.owner(fingerprint(str(leaking)), "it", default_paths())
    assert status(owner, "audit").state == "finished", status(owner, "audit").reason
    at.run()
    assert at.error[0].value.startswith("Scores on this data set cannot be believed: 2 of 14 (14\u00a0%)")


def test_the_verdict_the_findings_and_the_images_of_one_are_shown(leaking):
    made = audit(str(leaking), default_paths())
    at = page(data=str(leaking), size="28")
    assert at.error[0].value.replace("\\", "").replace("\u00a0", " ") == made.verdict
    shown = words(at)
    assert all(one.clause[1:40] in shown.replace("\\", "") for one in made.findings)
    rules = at.table[0].value["Rule"].tolist()
    assert [one.title[1:] for one in made.yardsticks] == [rule[1:] for rule in rules]
    before = len(pictures(at))
    choice = at.selectbox(key=f"audit_images_{made.fingerprint}")
    assert choice.options[0] == "copies and look-alikes"
    contradiction = next(one for one in made.findings if one.key == "contradictions")
    choice.set_value(contradiction.clause).run()
    assert not at.exception
    assert len(pictures(at)) == before - 2 * len(made.pairs) + 2


def test_an_audit_that_failed_says_why(leaking):
    owner = report.owner(fingerprint(str(leaking)), "it", default_paths())
    asked = queue(default_paths()).submit_task(owner, "audit", {"data": "/nowhere"})
    assert queue(default_paths()).join(60)
    assert asked.status == "failed"
    at = page(data=str(leaking), size="28")
    assert "There is no data set '/nowhere'" in at.error[0].value
    assert at.button(key="audit_start").label == "Audit"
