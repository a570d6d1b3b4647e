"""Heat maps as DICOM files beside the image that they explain."""
