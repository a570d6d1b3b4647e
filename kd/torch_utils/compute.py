"""How a run computes: on which device, in which precision, on how many threads.

Threads: all physical cores that the process may use, or as many as the spec says. The number decides the last bits of
the weights, so it is set once when a run starts, recorded, and taken again by a resume. It must not depend on anything
that happens meanwhile, such as somebody looking at a page.
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
    """The kind of device that `auto` stands for here, `cuda`, `mps` or `cpu`, as Lightning Fabric chooses it; any
    other is itself, without its number."""
    import torch

    if wanted != "auto":
        return wanted.split(":")[0]
    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_here(wanted: str) -> str:
    """The kind of device on which a model of a spec with this device is measured or inspected here: `cuda` where the
    spec leaves it open and this machine has it, otherwise `cpu`.

    Never `mps`: explainers compute in double precision, which it lacks.
    """
    import torch

    return "cuda" if wanted.split(":")[0] in ("auto", "cuda") and torch.cuda.is_available() else "cpu"


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
    kind = resolve_device(device_wanted)
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if kind == "cpu" and not grouped and _bf16_in_hardware() else "32-true"


def _bf16_in_hardware() -> bool:
    return any(_processor().get(name) for name in BF16)


def _processor() -> Mapping[str, Any]:
    """What torch knows of the processor; nothing where it cannot say."""
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    return ask() if ask else {}


def cores() -> int:
    """Cores that this process may compute on: its share of the physical ones that it is allowed, no more than
    OMP_NUM_THREADS where that is set."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(mine, _processor().get("num_physical_cores") or mine) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(share, int(asked)) if asked.isdigit() else share)


def threads(wanted: int = 0, recorded: int = 0) -> int:
    """How many threads to compute on. wanted: as in a spec, 0 for all cores. recorded: on how many an earlier part of
    the same run was computed, 0 for none; they are taken again where this machine has as many cores."""
    return wanted or (recorded if 0 < recorded <= cores() else cores())


def set_threads(number: int) -> int:
    """Let this thread of the program compute on so many threads from now on; gives the number back.

    Other threads of the program keep theirs; one that is started later begins with it.
    """
    import torch

    torch.set_num_threads(number)
    return number


@contextmanager
def computing_threads(number: int) -> Iterator[None]:
    """Compute in this block on so many threads; the former number comes back at the end."""
    import torch

    before = torch.get_num_threads()
    set_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_without_spinning() -> None:
    """Let idle OpenMP threads of this program sleep; for every program that computes beside others, such as pages.

    Two threads that spin while they wait collapse when another thread wants the core. The runtime reads this once, when
    torch is imported, so it must be called before that. A value that is set already stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def tune_malloc() -> None:
    """Let this program keep up to 256 MB that it has freed, where glibc manages its memory.

    A step makes and frees the same megabytes as the step before. By default they go back to the system each time and
    come again page by page: with that gone, a plain student's step took a tenth less in the middle of sixteen pairs of
    measurements, from nothing to 30 %.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, size in ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 256 * 2**20)):
            libc.mallopt(option, size)
