"""The background import of what later pages need."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_server_that_ends_reports_no_leaks():
    code = "from pages.parts.shared import warmup; warmup.warm(); import kd.explainers"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    assert "leaked" not in done.stderr
