import pytest
from small import trained

from benchmarks import views
from kd.paths import Paths
from kd.store.runs import Store


def test_fewer_views_stand_beside_the_most(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "VIEWS", (2, 1))
    monkeypatch.setattr(views, "RECIPE", {"depth": 1, "width": 4, "epochs": 2, "batch_size": 32})
    store = Store(Paths(tmp_path))
    most, few = views.rows(store, trained(store, epochs=1), 1)
    assert [most[1:3], few[1:3]] == [("2", "2"), ("1", "1")]
    assert most[5:] == ("+0.0 (+0.0 to +0.0)", "+0.000 (+0.000 to +0.000)")
    assert float(few[5].split()[0]) == pytest.approx(float(few[3]) - float(most[3]), abs=0.11)
