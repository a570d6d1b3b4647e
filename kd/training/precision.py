"""Arithmetic precision that a spec's `auto` stands for on this machine."""

from kd.spec import RunSpec
from kd.torch_utils.compute import precision


def resolve_precision(spec: RunSpec) -> str:
    """Precision in which a spec's model is trained here. Raises UsageError as `kd.models.build` does."""
    from kd.models import wants_float32

    return precision(spec.precision, spec.device, spec.precision == "auto" and wants_float32(spec))
