import importlib
import os
import platform
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from small import spec

from kd.torch_utils import compute
from kd.torch_utils.compute import computing_threads, cores, precision, resolve_device, set_threads, threads
from kd.training.precision import resolve_precision

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def processor(monkeypatch):
    """Sets what this machine's processor can do, and that it has no other device."""
    importlib.import_module("kd.models")  # timm's import, once and for all, looks at what is patched here
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return lambda *known: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(known, True),
                                              raising=False)


@pytest.mark.parametrize(("known", "chosen"), [
    (("avx2", "avx512_f"), "32-true"), (("avx512_bf16",), "bf16-mixed"), (("amx_bf16",), "bf16-mixed"),
    (("neon", "bf16"), "bf16-mixed"), ((), "32-true"),
])
def test_auto_takes_bfloat16_where_the_processor_has_it(processor, known, chosen):
    processor(*known)
    assert precision("auto", "auto") == precision("auto", "cpu") == chosen


def test_a_torch_that_cannot_say_what_the_processor_has_computes_in_float32(processor, monkeypatch):
    processor()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision("auto", "cpu") == "32-true"


@pytest.mark.parametrize("wanted", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_choice_of_ones_own_holds_everywhere(processor, wanted):
    processor()
    assert precision(wanted, "cpu") == precision(wanted, "cuda") == resolve_precision(spec(precision=wanted)) == wanted


def test_depthwise_convolutions_stay_in_float32_on_a_processor(processor):
    processor("avx512_bf16")
    assert resolve_precision(spec()) == "bf16-mixed"
    assert resolve_precision(spec(model="mobilenetv3_small_050")) == "32-true"


@pytest.mark.parametrize(("able", "chosen"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_takes_bfloat16_where_it_computes_in_it(processor, monkeypatch, able, chosen):
    processor()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able)
    assert precision("auto", "cuda:1") == chosen
    assert precision("auto", "mps") == "32-true"


def test_auto_is_the_device_that_is_there(processor, monkeypatch):
    processor()
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda:1") == "cuda"


@pytest.mark.parametrize(("wanted", "recorded", "cores", "expected"), [
    (0, 0, 16, 16), (3, 0, 16, 3), (3, 8, 16, 3), (0, 8, 16, 8), (0, 16, 16, 16),
    (0, 16, 4, 4),  # resumed on a machine with fewer cores
    (32, 0, 4, 32),
])
def test_threads_are_the_wanted_else_the_recorded_else_all_cores(monkeypatch, wanted, recorded, cores, expected):
    monkeypatch.setattr(compute, "cores", lambda: cores)
    assert threads(wanted, recorded) == expected


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, 8), ({"OMP_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "64"}, 8), ({"OMP_NUM_THREADS": "2,1"}, 2),
    ({"LOCAL_WORLD_SIZE": "2"}, 4), ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "8"}, 4),
    ({"LOCAL_WORLD_SIZE": "32"}, 1),
])
def test_all_cores_are_this_process_share_of_the_physical_ones(monkeypatch, settings, expected):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"num_physical_cores": 8}, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert cores() == expected


def test_threads_are_set_for_one_thread_of_the_program_and_given_back():
    seen = []

    def work():
        with computing_threads(2):
            seen.append(torch.get_num_threads())
            seen.append(set_threads(5))
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen == [2, 5, 5, before]
    assert torch.get_num_threads() == before


def started(command: list[str], path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh process in which nobody has said yet how threads wait."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={**inherited, "PYTHONPATH": os.pathsep.join(map(str, (path, ROOT))), **environment})


@pytest.mark.parametrize("start", ["import kd.__main__; kd.__main__.main(['datasets'])",
                                   *(f"import runpy; runpy.run_path('{script}')" for script in (
                                       "dashboard.py", "pages/compare.py", "pages/evaluate.py"))])
def test_how_threads_wait_is_set_before_torch_is_imported_however_the_program_is_started(start, tmp_path):
    (tmp_path / "torch.py").write_text("import os\nprint('waits', os.environ.get('OMP_WAIT_POLICY'), flush=True)\n"
                                       "os._exit(0)\n")
    assert "waits PASSIVE" in started(["-c", f"{start}; import torch"], tmp_path).stdout


def test_threads_wait_without_spinning_also_where_a_launcher_imports_torch_first(tmp_path):
    command = ["-m", "lightning_fabric.cli", "--accelerator=cpu", "kd/__main__.py", "datasets"]
    done = started(command, tmp_path, OMP_DISPLAY_ENV="verbose")
    spins = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if not spins:
        pytest.skip("this torch brings another OpenMP runtime, which does not say how it waits")
    assert spins[-1] == "0"  # of `fabric run` itself, which imports torch before us and computes nothing, comes first


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_comes_and_goes_is_held():
    code = """
import resource, sys
import numpy as np
from kd.torch_utils import compute
if sys.argv[1:]:
    compute.tune_malloc()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    some = [np.ones(2**21) for _ in range(8)]  # of 16 MB each, 4096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    given_back, held = (int(subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True,
                                           cwd=ROOT, check=True).stdout) for more in ((), ("hold",)))
    assert held < 4096 < given_back
