"""Arithmetic precision that a spec's `auto` stands for on this machine."""

from kd.spec import RunSpec
from kd.torch_utils import compute


def resolve_precision(spec: RunSpec) -> str:
    """Precision in which a spec's model is trained here. Raises UsageError as `kd.models.build` does."""
    from kd.models import wants_float32

    return compute.precision(spec.precision, spec.device, spec.precision == "auto" and wants_float32(spec))


def teacher_precision(spec: RunSpec, own: str) -> str:
    """Precision of the teacher's outputs for a student of this spec that is trained in `own`.

    With `auto`, a processor with bfloat16 uses it for them, also where the student is better trained in float32.
    Measured with MobileNetV2 at 224 px, views of brain MRI: every class is the same, and the Kullback-Leibler
    divergence from float32 is 4e-5 (1.7e-3 at T = 4), where that between two views of an image is 2e-2 (1.6e-1).
    """
    return compute.precision("auto", spec.device) if spec.precision == "auto" and own == "32-true" else own
