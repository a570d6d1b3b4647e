#!/usr/bin/env bash
# timm 1.0.31: a new classifier of the EfficientNet family is drawn so wide that training starts far above ln K.
#
# `create_model("mobilenetv2_100", num_classes=4)` draws the classifier's weights from U(-1/sqrt(4), 1/sqrt(4)): the
# family's initialiser takes a linear layer's number of outputs where other families, and nn.Linear, take its number of
# inputs. With the 1,000 classes of ImageNet both are alike; with few classes the spread is sqrt(1280 / 4) = 18 times
# that of nn.Linear. The same network has the ordinary spread if it is made with 1,000 classes and then given a new
# classifier by `reset_classifier(4)`, so two documented ways to the same network differ 18-fold. The first steps of a
# fine-tuning then undo what was pretrained: on 838 brain MRI slices a pretrained MobileNetV2 reached .85 in this state
# and .91 with a classifier that started at zero.
#
# Expected: the same spread either way, about 1/sqrt(inputs), and a cross-entropy at the start near ln 4 = 1.39.
# Seen: standard deviations .29 and .016; a cross-entropy of standard-normal features several times ln 4. resnet18 and
# densenet121 have the ordinary spread either way.
# Source: `_init_weight_goog` in timm/models/_efficientnet_builder.py, its branch for nn.Linear.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31
"$work/venv/bin/python" - <<'PY'
import sys

import timm
import torch
from torch.nn import functional as F

CLASSES = 4


def spread(name, by_reset):
    """Standard deviation of a new classifier times the square root of its inputs (nn.Linear: .58), and the
    cross-entropy of random labels at standard-normal features."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=1000 if by_reset else CLASSES)
    if by_reset:
        model.reset_classifier(CLASSES)
    head = model.get_classifier()
    features, labels = torch.randn(2000, head.in_features), torch.randint(0, CLASSES, (2000,))
    return head.weight.std().item() * head.in_features**0.5, F.cross_entropy(head(features), labels).item()


seen = {}
for name in ("mobilenetv2_100", "efficientnet_b0", "resnet18", "densenet121"):
    made, reset = spread(name, False), spread(name, True)
    seen[name] = made[0] / reset[0]
    print(f"{name}: made with 4 classes {made[0]:.2f} (cross-entropy {made[1]:.1f}), by reset_classifier {reset[0]:.2f} "
          f"(cross-entropy {reset[1]:.1f})")
wide, usual = ("mobilenetv2_100", "efficientnet_b0"), ("resnet18", "densenet121")
sys.exit(0 if all(seen[name] > 10 for name in wide) and all(seen[name] < 2 for name in usual)
         else "The behaviour has changed.")
PY
