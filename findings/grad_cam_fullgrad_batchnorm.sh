#!/usr/bin/env bash
# grad-cam 1.5.7 with timm 1.0.31: FullGrad leaves out every batch norm of networks that fuse norm and activation.
#
# FullGrad's map is |gradient x input| plus the bias gradients of all convolutions and batch norms (Srinivas & Fleuret
# 2019). The package finds these layers by comparing `type(layer)` with Conv2d and BatchNorm2d. timm's MobileNetV2 has
# only BatchNormAct2d, a subclass of BatchNorm2d, and its convolutions have no bias.
#
# Expected: 52 layers with a bias (as many as the network has batch norms).
# Seen: none, and no warning: the map is |gradient x input| alone.
# Source: `find_layer_types_recursive` of pytorch_grad_cam, called by FullGrad's constructor.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 \
  timm==1.0.31 grad-cam==1.5.7
"$work/venv/bin/python" - <<'PY'
import sys

import timm
import torch
from pytorch_grad_cam import FullGrad

model = timm.create_model("mobilenetv2_100", num_classes=4).eval()
norms = sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())
found = len(FullGrad(model, []).target_layers)
print(f"batch norms in the network: {norms}; layers with a bias that FullGrad uses: {found}")
sys.exit(0 if (norms, found) == (52, 0) else "The behaviour has changed.")
PY
