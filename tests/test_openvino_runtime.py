import os
import subprocess
import sys

import pytest

CODE = """
import socket, sys
def refuse(*args):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
from kd.openvino_runtime import nncf, openvino
assert openvino().Core().available_devices == ["CPU"]
assert sys.modules["openvino_telemetry"] is None
if {nncf}:
    assert nncf().quantize
"""


@pytest.mark.parametrize("with_nncf", [False, True])
def test_importing_reports_nothing_and_leaves_nothing_behind(tmp_path, with_nncf):
    home = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", CODE.format(nncf=with_nncf)], env=home, check=True, timeout=120)
    assert not (tmp_path / "intel").exists()
