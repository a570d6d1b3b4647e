"""Preview beside the form: the student's stages and cost, and an estimate of time, memory and disk."""

from collections.abc import Sequence

import streamlit as st

from kd.datasets import DataRef
from kd.experiments.estimate import ResourceEstimate, estimate_resources
from kd.experiments.plan import DistillSpec, plan_specs, weights_notes
from kd.metrics.grids import coarse_note
from kd.models import cost
from kd.spec import RunSpec
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import dataset_info
from pages.parts.shared.format import count, plain, rough, size, times, unbroken
from pages.parts.shared.images import coarse

Specs = tuple[RunSpec, RunSpec, RunSpec]


def student_preview(request: DistillSpec) -> tuple[Specs, DataRef]:
    """Check the request, draw the student's stages and its cost beside the teacher's. Raises UsageError."""
    about = dataset_info(request.data)
    planned = plan_specs(request, store(), about)
    teacher, _, student = planned
    classes = len(about.classes)
    large, small = cost.cost(teacher, classes), cost.cost(student, classes)
    rows, above = cost.layers(student, classes), cost.layers(teacher, classes)
    masking = cost.mask_cost(student, classes)
    st.table([
        _total("Teacher", teacher, large, above),
        _total("Student", student, small, rows),
        *([_explainer(masking)] if masking else []),
        {"": "Teacher ÷ student", "Parameters": times(large.parameters, small.parameters),
         "FLOPs": times(large.flops, small.flops), "Receptive field": ""},
    ], border="horizontal", hide_index=True, alt="Parameters, FLOPs and receptive field of teacher and student")
    st.caption(" ".join((cost.flops_note(large.flops / small.flops), *map(plain, weights_notes(planned, about)))))
    with st.container(height=320 if len(rows) > 7 else "content", border=False):
        st.table([_layer(row) for row in rows], border="horizontal", hide_index=True,
                 alt="The student's stages")
    coarse(coarse_note((f"last stage of the {role}", (shown[-1].grid,) * 2)
                       for role, shown in (("teacher", above), ("student", rows)) if shown))
    st.caption("Receptive field: side of the square of the image that one cell of the last grid depends on; "
               f"behind a mask network, of the masked image. {_sizes(teacher, student)}")
    return planned, about


def _sizes(teacher: RunSpec, student: RunSpec) -> str:
    """At which sizes the models compute."""
    if teacher.model_size == student.model_size:
        return f"FLOPs of one image at {student.model_size} px."
    return (f"FLOPs of one image of {teacher.image_size} px, which the student downsamples to {student.model_size} px."
            if teacher.model_size == teacher.image_size else
            f"FLOPs of one image at {teacher.model_size} px (teacher) and {student.model_size} px (student).")


def _total(role: str, spec: RunSpec, price: cost.Cost, rows: Sequence[cost.LayerRow]) -> dict[str, str]:
    return {"": f"{role} · {spec.model_label}", "Parameters": count(price.parameters), "FLOPs": count(price.flops),
            "Receptive field": _field(rows[-1]) if rows else "–"}


def _explainer(price: cost.Cost) -> dict[str, str]:
    """The mask network's row: it is no stage of the student."""
    return {"": "of that, mask network (U-Net)", "Parameters": count(price.parameters), "FLOPs": count(price.flops),
            "Receptive field": ""}


def _layer(row: cost.LayerRow) -> dict[str, str]:
    cells = {"Stage": row.name, "Channels": count(row.channels), "Grid": f"{row.grid}×{row.grid}",
             "Params": count(row.parameters), "FLOPs": count(row.flops), "Receptive field": _field(row)}
    return {name: unbroken(text) for name, text in cells.items()}


def _field(row: cost.LayerRow) -> str:
    return f"{row.receptive_field} px" if row.receptive_field else "–"


def demands(planned: Specs, about: DataRef, seeds: int = 1) -> None:
    """Time, memory and disk of all seeds, with how they were found."""
    with st.spinner("Estimating the time"):
        found = estimate_resources(planned, about, store(), seeds)
    for warning in found.warnings:
        st.warning(warning, icon=":material/warning:")
    time = f"about {rough(found.seconds)}" if found.seconds else "nothing left to train"
    st.markdown(f":material/timer: **{time}** · memory ≈ {size(found.memory)}{_free(found.memory_free)} · "
                f"disk ≈ {size(found.disk)}{_free(found.disk_free)}")
    st.caption("  \n".join(_lines(found)))


def _free(free: int | None) -> str:
    return "" if free is None else f" of {size(free)} free"


def _lines(found: ResourceEstimate) -> list[str]:
    bases: dict[str, list[str]] = {}
    for need in found.run_estimates:
        time = "" if need.finished else f" {rough(need.seconds)}"
        role = f"{need.runs} {need.role}s" if need.runs > 1 else need.role
        bases.setdefault(need.basis, []).append(f"{role}{time}")
    lines = [f"{', '.join(roles).capitalize()}: {basis}." for basis, roles in bases.items()]
    return [*lines, f"For about {found.images:,} training images. Decoding a new data set and waiting for other runs "
            "come on top."]
