"""Device, precision and threads of a computation.

Threads: all physical cores that the process may use, or the number in the spec. The number affects the last bits of the
weights, so it is set once when a run starts, recorded, and used again by a resume. It must not depend on anything that
happens meanwhile, such as an open page.
"""

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Without one of these a processor emulates bfloat16, several times slower than it computes in float32.
BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of options in glibc's malloc.h


def resolve_device(wanted: str) -> str:
    """Kind of device of a setting: `auto` becomes `cuda`, `mps` or `cpu`, as Lightning Fabric chooses here; any other
    is returned without its number."""
    import torch

    if wanted != "auto":
        return wanted.split(":")[0]
    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_here(wanted: str) -> str:
    """Kind of device on which a model is measured or inspected here: `cuda` where the spec's device allows it and this
    machine has it, otherwise `cpu`.

    Never `mps`: explainers compute in double precision, which it lacks.
    """
    import torch

    return "cuda" if wanted.split(":")[0] in ("auto", "cuda") and torch.cuda.is_available() else "cpu"


def precision(wanted: str, device_wanted: str, float32: bool = False) -> str:
    """Precision of a setting on a device: `auto` becomes 32-true, bf16-mixed or 16-mixed; any other is returned as is.

    device_wanted: as in a spec, or a torch device's name. float32: whether the model has layers that a processor trains
    better in it (`kd.models.wants_float32`). A processor with bfloat16 uses it for all other models: measured with
    AVX-512 BF16, a training step of a plain student is a third to three quarters faster and one of ResNet18 twice as
    fast, but MobileNetV2's takes twice as long, in the depthwise backward pass.
    """
    import torch

    if wanted != "auto":
        return wanted
    kind = resolve_device(device_wanted)
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if kind == "cpu" and not float32 and _bf16_in_hardware() else "32-true"


def _bf16_in_hardware() -> bool:
    return any(_processor().get(name) for name in BF16)


def _processor() -> Mapping[str, Any]:
    """Capabilities of the processor as torch reports them; empty in versions of torch that do not."""
    import torch

    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    return get_capabilities() if get_capabilities else {}


def processor() -> str:
    """The kind of processor and its instruction sets, which determine the last digits of a sum."""
    import torch

    units = [name for name in BF16 if _processor().get(name)]
    return " ".join([platform.machine(), torch.backends.cpu.get_cpu_capability(), *units])


def cores() -> int:
    """Number of cores that this process may compute on: its share of the physical ones allowed to it, at most
    OMP_NUM_THREADS where that is set."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = min(allowed, _processor().get("num_physical_cores") or allowed)
    share = physical // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(share, int(limit)) if limit.isdigit() else share)


def threads(wanted: int = 0, recorded: int = 0) -> int:
    """Number of threads to compute on. wanted: as in a spec, 0 for all cores. recorded: number in an earlier part of
    the same run, 0 for none; it is used again where this machine has as many cores."""
    return wanted or (recorded if 0 < recorded <= cores() else cores())


def set_threads(number: int) -> int:
    """Set the number of threads that this thread of the program computes on from now on; returns it.

    Other threads of the program keep theirs; one that is started later begins with it.
    """
    import torch

    torch.set_num_threads(number)
    return number


@contextmanager
def computing_threads(number: int) -> Iterator[None]:
    """A block that computes on so many threads; the former number is restored at its end."""
    import torch

    before = torch.get_num_threads()
    set_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_without_spinning() -> None:
    """Let idle OpenMP threads of this program sleep; for programs that compute beside others, such as pages.

    Threads that spin while they wait slow each other down heavily when another thread needs the core. The runtime reads
    this once, when torch is imported, so it must be called before that. A value that is set already stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def tune_malloc() -> None:
    """Let this program keep up to 256 MB that it has freed, where glibc manages its memory.

    Every training step allocates and frees the same megabytes. By default they are returned to the system each time and
    allocated again page by page: without that, a plain student's step took 10 % less, the median of sixteen pairs of
    measurements (0 to 30 %).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, size in ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 256 * 2**20)):
            libc.mallopt(option, size)
