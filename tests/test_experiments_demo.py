from kd.experiments import demo
from kd.jobs.queue import execute
from kd.store.runs import Store


def test_the_demo_goes_from_nothing_to_a_figure(tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(demo, "REQUEST", replace(demo.REQUEST, data="phantom-brain:count=60", epochs=1, image_size=32))
    store = Store()
    trio = demo.plan(store)
    assert [execute(run, store) for run in trio.runs] == ["finished"] * 3
    result = demo.compare(trio.student, store, tmp_path / "out")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    assert result
