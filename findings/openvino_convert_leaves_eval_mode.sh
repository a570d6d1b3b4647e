#!/usr/bin/env bash
# openvino 2026.4.1: convert_model leaves the torch module that it was given in evaluation mode.
#
# A module in training mode is converted, as between two epochs, for a fast evaluation of its weights so far. The
# converter switches the module itself to evaluation mode while it traces it and does not switch it back. The training
# that goes on normalises by running averages, which no longer move, and drops nothing; no error and no warning tells.
#
# Expected: the module's mode, and that of its parts, is what it was before the call.
# Seen: `training` is False everywhere afterwards, and the running mean of a batch normalisation does not move in the
# next forward pass of the training.
# Source: the decoder of torch modules in OpenVINO's PyTorch frontend calls `eval()` on the module before tracing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check openvino==2026.4.1 torch==2.15.0 numpy==2.4.6
cd "$work"
HOME="$work" "$work/venv/bin/python" -W ignore - <<'PY'
import sys

sys.modules["openvino_telemetry"] = None  # it would report its use

import openvino
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
images = torch.rand(2, 3, 8, 8)


def moved():
    """Whether a forward pass of the training moves the running mean."""
    before = model[1].running_mean.clone()
    model(images)
    return not torch.equal(before, model[1].running_mean)


seen = {"before": ([part.training for part in model.modules()], moved())}
openvino.convert_model(model, example_input=images)
seen["after"] = ([part.training for part in model.modules()], moved())
for when, (training, moves) in seen.items():
    print(f"{when} the conversion: training {training}, running mean moves: {moves}")
changed = all(seen["before"][0]) and seen["before"][1] and not any(seen["after"][0]) and not seen["after"][1]
sys.exit(0 if changed else "The behaviour has changed.")
PY
