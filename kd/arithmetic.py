"""How a run computes: on which device, in which precision."""
from kd.spec import RunSpec

# Without one of these a processor emulates bfloat16, several times slower than it computes in float32.
BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def device(wanted: str) -> str:
    """The kind of device that `auto` stands for here, `cuda`, `mps` or `cpu`, as Lightning Fabric chooses it; any
    other is itself, without its number."""
    import torch

    if wanted != "auto":
        return wanted.split(":")[0]
    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision(wanted: str, device_wanted: str, grouped: bool = False) -> str:
    """The arithmetic that `auto` stands for on a device: 32-true, bf16-mixed or 16-mixed; any other is itself.

    device_wanted: as in a spec, or a torch device's name. grouped: whether the model has grouped (depthwise)
    convolutions. On a processor with bfloat16 it is taken for all but these: measured on one with AVX-512 BF16, a
    training step of a plain student gains a third to three quarters and one of ResNet18 doubles its speed, but
    MobileNetV2's falls to half, in the depthwise backward pass.
    """
    import torch

    if wanted != "auto":
        return wanted
    kind = device(device_wanted)
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if kind == "cpu" and not grouped and _bf16_in_hardware() else "32-true"


def precision_of(spec: RunSpec) -> str:
    """The arithmetic in which a spec's model is trained here. Raises UsageError as `kd.models.build` does."""
    from kd.models import grouped

    return precision(spec.precision, spec.device, spec.precision == "auto" and grouped(spec))


def _bf16_in_hardware() -> bool:
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)  # an older torch cannot say
    return ask is not None and any(ask().get(name) for name in BF16)
