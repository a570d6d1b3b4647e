"""How a run computes: on which device, in which precision, on how many threads.

Threads: while somebody looks at a page, training leaves one core to the pages. On two cores that is one thread, and
two would make every page wait; on sixteen one thread would be waste, and fifteen are used. When nobody looks, and on
the command line, it takes all cores. The number decides the last bits of the weights, so an epoch records which it had.
"""

import ctypes
import os
import platform
import sys
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kd.spec import RunSpec

GLANCE = 30.0  # seconds for which a page that ran or polled counts as being looked at
# Without one of these a processor emulates bfloat16, several times slower than it computes in float32.
BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of options in glibc's malloc.h


def device(wanted: str) -> str:
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
    kind = device(device_wanted)
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if kind == "cpu" and not grouped and _bf16_in_hardware() else "32-true"


def precision_of(spec: RunSpec) -> str:
    """The arithmetic in which a spec's model is trained here. Raises UsageError as `kd.models.build` does."""
    from kd.models import grouped

    return precision(spec.precision, spec.device, spec.precision == "auto" and grouped(spec))


def _bf16_in_hardware() -> bool:
    return any(_processor().get(name) for name in BF16)


def _processor() -> Mapping[str, Any]:
    """What torch knows of the processor; nothing where it cannot say."""
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    return ask() if ask else {}


def look() -> None:
    """Say that somebody looks at a page of this process now; for every run of a page and every poll of a part of it."""
    _looks().__dict__["last"] = time.monotonic()


def looked_at() -> bool:
    """Whether somebody has looked within the last GLANCE seconds."""
    return time.monotonic() - _looks().__dict__.get("last", -GLANCE) < GLANCE


def _looks() -> types.ModuleType:
    """Lives in a synthetic module: after a reload of this one, worker and pages must still speak of the same thing."""
    return sys.modules.setdefault("_kd_lens_looks", types.ModuleType("_kd_lens_looks"))


def cores() -> int:
    """Cores that this process may compute on: its share of the physical ones that it is allowed, no more than
    OMP_NUM_THREADS where that is set."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(mine, _processor().get("num_physical_cores") or mine) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(share, int(asked)) if asked.isdigit() else share)


def threads(wanted: int = 0) -> int:
    """How many threads to compute on now. wanted: as in a spec, 0 for the policy above."""
    return wanted or max(1, cores() - looked_at())


def follow(wanted: int = 0) -> int:
    """Let this thread of the program compute on `threads(wanted)` from now on, and return the number.

    Cheap, for between two batches. Other threads of the program keep theirs; one that is started later begins with it.
    """
    import torch

    now = threads(wanted)
    if now != torch.get_num_threads():
        torch.set_num_threads(now)
    return now


@contextmanager
def following(wanted: int = 0) -> Iterator[None]:
    """Compute in this block on `threads(wanted)` as it is at the start; the former number comes back at the end."""
    import torch

    before = torch.get_num_threads()
    follow(wanted)
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


def hold_memory() -> None:
    """Let this program keep up to 256 MB that it has freed, where glibc manages its memory.

    A step makes and frees the same megabytes as the step before. By default they go back to the system each time and
    come again page by page: with that gone, a plain student's step took a tenth less in the middle of sixteen pairs of
    measurements, from nothing to 30 %.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, size in ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 256 * 2**20)):
            libc.mallopt(option, size)
