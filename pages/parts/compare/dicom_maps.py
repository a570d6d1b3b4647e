"""The maps of a comparison as DICOM files, for an image that came from DICOM."""

import streamlit as st

from kd.errors import UsageError
from kd.export.dicom.maps import archive, maps_of_comparison
from kd.export.dicom.reference import plane_of, require_writable
from kd.inspection.compare import Comparison
from pages.parts.compare.image_picker import Chosen
from pages.parts.shared.format import plain

LABEL, ICON = "Maps (DICOM)", ":material/radiology:"


def download(comparison: Comparison, chosen: Chosen) -> None:
    """The download, or why there is none; nothing for an image that did not come from DICOM."""
    if chosen.imported:
        st.button(LABEL, icon=ICON, disabled=True, key="compare_dicom_none")
        st.caption("Of the DICOM files that it was imported from, a data set keeps pixels alone. To take maps away as "
                   "DICOM, choose *Upload* above and give the DICOM file itself.")
    if chosen.dicom is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        keep = st.toggle("Keep the patient", key="compare_dicom_patient",
                         help="Copies name, id, birth date and sex and the study's identifiers, for an archive of your "
                              "own. Otherwise they are empty; the image's UIDs are kept in any case.")
        name = f"{comparison.student.explanation.run.id}-dicom.zip"
        try:
            require_writable(chosen.dicom, keep)
        except UsageError as error:
            st.caption(plain(str(error)))
            return
        image = chosen.dicom
        st.download_button(LABEL, lambda: archive(maps_of_comparison(comparison), image, keep), name,
                           "application/zip", icon=ICON, on_click="ignore")
    st.caption("Fractional segmentations, which a viewer lays over the image." if plane_of(image) else
               "Secondary captures, colours over the image: its file does not say where in the patient it lies, so a "
               "viewer could not lay maps over it.")
