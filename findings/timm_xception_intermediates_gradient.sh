#!/usr/bin/env bash
# timm 1.0.31: forward_intermediates of legacy_xception returns middle stages that no gradient of the logits reaches.
#
# The docstring of `forward_intermediates` says that stages 1 to 3 are "the ReLU that starts the following block". They
# are new ReLUs of the block's output, beside the network: the following block computes its own. So Grad-CAM and every
# other method that differentiates the logits in these features fails, although the same call works for the other stages
# and for other families. `features_only` returns the block's own ReLU, on which its later stages depend.
#
# Expected: the logits depend on every intermediate, as the later stages of `features_only` depend on the earlier ones.
# Seen: stages 1 to 3 "appear to not have been used in the graph"; with `features_only` all stages are used.
# Source: `intermediates.append(F.relu(x))` in `Xception.forward_intermediates` of timm/models/xception.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31
"$work/venv/bin/python" - <<'PY'
import sys

import timm
import torch

torch.manual_seed(0)
image = torch.rand(1, 3, 96, 96)


def used(result, features):
    """For each feature map, whether the result depends on it in the graph."""
    gradients = torch.autograd.grad(result, features, allow_unused=True)
    return [gradient is not None for gradient in gradients]


model = timm.create_model("legacy_xception", num_classes=4).eval()
last, stages = model.forward_intermediates(image)
of_logits = used(model.forward_head(last)[0, 0], stages)
stages = timm.create_model("legacy_xception", features_only=True).eval()(image)
of_last = used(stages[-1].sum(), stages)
print(f"logits depend on the stages of forward_intermediates: {of_logits}")
print(f"the last stage depends on the stages of features_only: {of_last}")
sys.exit(0 if (of_logits, of_last) == ([True, False, False, False, True], [True] * 5)
         else "The behaviour has changed.")
PY
