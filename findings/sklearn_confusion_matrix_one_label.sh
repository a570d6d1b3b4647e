#!/usr/bin/env bash
# scikit-learn 1.9.1: confusion_matrix advises to pass `labels` also where they were passed.
#
# The warning for matrices of one row was added for calls without `labels`, whose matrix is smaller than the number of
# classes. It looks at the shape alone, so it also comes where `labels` names the one class there is, and where the
# matrix has the correct shape already. With warnings as errors such a call fails.
#
# Expected: no warning from confusion_matrix([0], [0], labels=[0]).
# Seen: UserWarning: "... use the 'labels' parameter to pass all known labels."
# Source: `if cm.shape == (1, 1)` at the end of `confusion_matrix` in sklearn/metrics/_classification.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1
"$work/venv/bin/python" - <<'PY'
import sys
import warnings

from sklearn.metrics import confusion_matrix

with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    matrix = confusion_matrix([0], [0], labels=[0])
print(f"matrix: {matrix.tolist()}; warnings: {[str(one.message) for one in heard]}")
advised = len(heard) == 1 and "use the 'labels' parameter" in str(heard[0].message)
sys.exit(0 if advised and matrix.tolist() == [[1]] else "The behaviour has changed.")
PY
