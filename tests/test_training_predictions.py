"""The engine that answers for a run in training is logged, and answers what torch does."""

import numpy as np
import pytest
from small import small_data, trained

from kd.evaluation import predict
from kd.inference.choice import VARIABLE
from kd.inference.record import engines_used
from kd.store.runs import Store


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_predictions_of_a_run_are_those_of_torch_and_another_engine_is_logged(monkeypatch, engine):
    monkeypatch.setenv(VARIABLE, engine)
    store = Store()
    run = trained(store)
    assert {part: record.engine for part, record in engines_used(run).items()} == (
        {"predictions": engine} if engine == "openvino" else {})
    logged = [event for event in run.events() if event["event"] == "engine"]
    assert len(logged) == (engine == "openvino"), "once, not in every epoch"
    data = small_data(store.paths)
    exact = predict.predict(predict.load(run, len(data.classes)), data.test)
    with np.load(run.path / "predictions.npz") as stored:
        np.testing.assert_allclose(stored["logits"], exact, rtol=1e-4, atol=1e-4)
    assert predict.evaluate(run, store)["accuracy"] == run.summary["accuracy"]
