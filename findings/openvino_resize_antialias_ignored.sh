#!/usr/bin/env bash
# openvino 2026.4.1: an ONNX Resize with antialias=1 is computed without the antialiasing, without a word.
#
# Since opset 18 an ONNX Resize may antialias: where an image gets smaller, the filter is stretched, so that every pixel
# of the source counts (`antialias` in the operator's specification). Images are downsampled like that in front of a
# network, and torch's exporter writes it for interpolate(..., antialias=True). OpenVINO computes the plain linear
# interpolation, which looks at the two nearest pixels of the source alone.
#
# Expected: the values of ONNX's reference implementation and of onnxruntime, or an error that it is not supported.
# Seen: where one row of four is white, every pixel of a four times smaller image is 0 and not .25. A network behind such
# a node keeps running and names other classes.
# Source: the reader keeps the flag, as the attribute of an Interpolate of mode linear_onnx, which the processor's plugin
# computes without it. A torch model converted directly, without an ONNX file, has another mode and is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 \
  onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
HOME="$work" "$work/venv/bin/python" - <<'PY'
import sys

sys.modules["openvino_telemetry"] = None  # it would report its use

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def model(antialias):
    """An image [1, 1, 32, 32] resized to 8 pixels a side."""
    node = helper.make_node("Resize", ["image", "", "", "sizes"], ["small"], mode="linear", antialias=antialias,
                            coordinate_transformation_mode="half_pixel")
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 8, 8])
    graph = helper.make_graph([node], "resize", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 32, 32])],
                              [helper.make_tensor_value_info("small", TensorProto.FLOAT, [1, 1, 8, 8])], [sizes])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(made)
    return made


def answers(made, image):
    """The small image by each program."""
    onnx.save(made, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model("model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {"reference": ReferenceEvaluator(made).run(None, {"image": image})[0],
            "onnxruntime": session.run(None, {"image": image})[0], "openvino": compiled([image])[0]}


image = np.zeros((1, 1, 32, 32), np.float32)
image[..., ::4, :] = 1  # one row of four is white: the average is .25
apart = {}
for antialias in (0, 1):
    found = answers(model(antialias), image)
    for name, small in found.items():
        print(f"antialias={antialias} {name}: column of the small image {np.round(small[0, 0, :, 4], 3).tolist()}")
        apart[antialias, name] = float(np.abs(small - found["reference"]).max())
print("greatest difference from the reference:", {key: round(value, 6) for key, value in apart.items()})
same = all(value < 1e-5 for key, value in apart.items() if key != (1, "openvino"))
sys.exit(0 if same and apart[1, "openvino"] > 0.1 else "The behaviour has changed.")
PY
