"""Beside the form of a sweep: its cells, the runs they make, and the time they will take."""

import json
from dataclasses import replace
from pathlib import Path

import streamlit as st

from kd.datasets import DataRef
from kd.experiments.plan import epochs_for_fraction
from kd.experiments.sweep import Sweep, cells
from kd.experiments.sweep.estimate import SweepEstimate, estimate_sweep
from kd.methods import check
from kd.paths import Paths
from kd.store.runs import Store
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import dataset_info
from pages.parts.shared.format import rough
from pages.parts.sweep.charts import named, text


def combinations(sweep: Sweep) -> None:
    """The varied settings, the number of cells, and notes on the methods for this data. Raises UsageError."""
    found = cells(sweep)
    st.table([{"Varies": named(name), "Values": ", ".join(map(text, values))} for name, values in sweep.axes.items()]
             + _stretched(sweep) or [{"Varies": "nothing", "Values": "one value each: a single distillation"}],
             border="horizontal", hide_index=True, alt="The settings that take several values")
    seeds = f", {sweep.base.seeds} seeds each" if sweep.base.seeds > 1 else ", one seed each"
    st.markdown(f"**{len(found)} cell{'s' if len(found) != 1 else ''}**{seeds}")
    if sweep.base.seeds == 1 and len(found) > 1:
        st.caption("With one seed, the difference between two cells may be seed variance. Use two or three seeds.")
    classes = len(dataset_info(sweep.base.data).classes)
    for method in dict.fromkeys(str(cell.settings.get("method", sweep.base.method)) for cell in found):
        if warning := check(method, classes):
            st.caption(f"{method}, note for binary tasks: {warning}")


def _stretched(sweep: Sweep) -> list[dict[str, str]]:
    """Epochs per share of the data, where they differ. Raises UsageError for too many."""
    if not sweep.base.equal_steps or "epochs" in sweep.axes:
        return []
    shares = map(float, sweep.axes.get("data_fraction", ()))
    counts = ", ".join(str(epochs_for_fraction(replace(sweep.base, data_fraction=share))) for share in shares)
    return [{"Varies": "epochs per share", "Values": counts}] if counts else []


def estimated(sweep: Sweep) -> None:
    """Runs and time. Raises UsageError for any combination that is refused."""
    with st.spinner("Checking every combination and estimating the time"):
        found = _demands(json.dumps(sweep.to_json()), dataset_info(sweep.base.data), store().paths.root)
    done = f", {found.finished} finished already and reused" if found.finished else ""
    time = f"about {rough(found.seconds)}" if found.runs > found.finished else "nothing left to train"
    st.markdown(f":material/checklist: **{found.runs} runs**{done}  \n:material/timer: **{time}**")
    st.caption(found.saving)
    st.caption("One teacher, a control per seed and shape, a student per seed and cell. Trained here one after the "
               "other; every cell shows with its first seed before the second begins.")


@st.cache_data(ttl=20, max_entries=32, show_spinner=False)
def _demands(sweep: str, data: DataRef, root: Path) -> SweepEstimate:
    return estimate_sweep(Sweep.from_json(json.loads(sweep)), Store(Paths(root)), data)
