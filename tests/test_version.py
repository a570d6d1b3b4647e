import json
import subprocess
import sys
from pathlib import Path

from packaging.version import Version

import kd
from kd.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
LOOK = """
import json, logging, os, signal, sys, threading, warnings
def seen():
    return [sorted(os.environ.items()), sorted(logging.root.manager.loggerDict), logging.root.level,
            list(map(str, logging.root.handlers)), list(map(str, warnings.filters)), str(sys.excepthook),
            [str(signal.getsignal(one)) for one in signal.valid_signals()], threading.active_count(), sys.path,
            sorted(name for name in sys.modules if name.split(".")[0] not in {"kd", *sys.stdlib_module_names})]
before = seen()
import kd
print(json.dumps([before, seen()]))
"""


def test_the_package_states_its_version():
    assert str(Version(VERSION)) == VERSION == kd.__version__


def test_importing_the_package_changes_nothing_of_the_process():
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert after == before
    assert not done.stderr
