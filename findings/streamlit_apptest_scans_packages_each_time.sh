#!/usr/bin/env bash
# streamlit 1.67.0: every AppTest reads the metadata of all installed packages again.
#
# A server looks for packages that bring components (version 2) once, when it starts. The testing framework makes a new
# component manager for each AppTest object, and its first run scans all installed distributions: their metadata are
# parsed as e-mail messages, several times each. Tests get slower with every package that is installed beside them, though
# no app uses a component: in an environment of 170 packages half of the time of a suite of page tests went there.
#
# Expected: the scan is done once a process, or not at all for a script that declares no component.
# Seen: as many scans as AppTest objects; a second run of the same object does not scan.
# Source: `discover_and_register_components` is called in `AppTest._run` wherever the object has no manager yet, and
# `scan_component_manifests` keeps nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check streamlit==1.67.0
cd "$work"
"$work/venv/bin/python" - <<'PY' 2>/dev/null
import importlib.metadata as metadata
import sys
import time

from streamlit.testing.v1 import AppTest

packages = len(list(metadata.distributions()))
reads = 0
plain = metadata.Distribution.metadata


def counted(self):
    global reads
    reads += 1
    return plain.fget(self)


metadata.Distribution.metadata = property(counted)


def reads_of(call):
    """How often a package's metadata were parsed, and seconds."""
    before, began = reads, time.perf_counter()
    call()
    return reads - before, time.perf_counter() - began


tests = [AppTest.from_string("import streamlit as st\nst.write('hello')") for _ in range(3)]
first = [reads_of(one.run) for one in tests]
again = [reads_of(one.run) for one in tests]
print(f"{packages} packages; metadata parsed in the first run of three objects: {[count for count, _ in first]}, in their "
      f"second: {[count for count, _ in again]}; seconds {[round(one, 3) for _, one in first + again]}")
scans = all(count >= packages for count, _ in first) and all(count == 0 for count, _ in again)
sys.exit(0 if scans else "The behaviour has changed.")
PY
