"""A model card and an example for an exported model."""

from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from kd.export.report import OPENVINO, by_openvino, timm_lines
from kd.spec import RunSpec
from kd.store.runs import Run

_OPEN = {
    "onnx": '''import json
import onnxruntime

session = onnxruntime.InferenceSession(Path(__file__).with_name("{file}"))
names = [output.name for output in session.get_outputs()]
details = json.loads(session.get_modelmeta().custom_metadata_map["kd_lens"])
found = dict(zip(names, session.run(None, {{"images": images}})))''',
    "torch": '''import torch

model = torch.export.load(Path(__file__).with_name("{file}")).module()
found = dict(zip({outputs}, (part.detach().numpy() for part in model(torch.from_numpy(images)))))''',
}


def text(run: Run, details: dict[str, Any], found: Any) -> str:
    """The card in Markdown, for what `kd.export.run.export` found."""
    head = ModelCardData(language="en", library_name="timm" if found.format == "safetensors" else found.format,
                         tags=["image-classification", "knowledge-distillation", "medical", "explainability"],
                         metrics=["accuracy"])
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n{_body(run, details, found)}"))


def _body(run: Run, details: dict[str, Any], found: Any) -> str:
    spec, scores = run.spec, run.evaluation or {}
    rows = [("Classes", ", ".join(details["classes"])), ("Images", details["images"]),
            ("Image size", f"{details['image_size']} px a side"),
            ("Trained on", f"{details['data']}, seed {spec.seed}"),
            ("Method", spec.method), ("Teacher", spec.teacher or "none"),
            ("Test accuracy", _percent(scores.get("accuracy"))), ("Macro-F1", _percent(scores.get("macro_f1"))),
            ("NLL", f"{scores['loss']:.3f}" if "loss" in scores else "–"),
            ("Parameters", f"{(run.summary or {}).get('parameters', 0):,}"),
            ("FLOPs of an image", f"{(run.summary or {}).get('flops', 0):,}")]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows)])
    parts = [f"# {_cell(details['model'])}", "**Not for clinical use.** For teaching and research on distillation and "
             "explanations.", table, _outputs(details, found), _checked(found), _int8(found),
             f"Run `{details['run']}`, by {details['program']}. `example.py` runs it without that program."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(value: object) -> str:
    """Text that is nothing but text in a Markdown table."""
    found = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in found)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _outputs(details: dict[str, Any], found: Any) -> str:
    if found.format == "safetensors":
        return ""
    lines = ["Outputs:", "", "- `logits` [batch, classes], before softmax"]
    lines += [f"- `{name}` [batch, {stage['channels']}, {stage['grid'][0]}, {stage['grid'][1]}], features"
              for name, stage in details["stages"].items()]
    if "class_maps" in found.outputs:
        lines += ["- `class_maps` [batch, classes, rows, columns] of the last stage: where each class is seen"]
    if "mask" in found.outputs:
        lines += ["- `mask` [batch, side, side] in 0..1: the share of each pixel that the classifier was shown"]
    return "\n".join([*lines, "", "Where the cells of each stage lie in the image stands in the details "
                      "(`stages`, `cells`)."])


def _checked(found: Any) -> str:
    if not found.checked:
        return ""
    worst = ", ".join(f"{one.greatest:.1e} for {one.batch}" for one in found.checked)
    return (f"Greatest difference from torch on {found.checked_on}, as a share of the output's largest value, by "
            f"batch: {worst}.")


def _int8(found: Any) -> str:
    if not found.int8:
        return ""
    one, other, maps = found.int8["float32"], found.int8["int8"], found.int8["maps"]["int8_float32"]
    words = [f"8-bit form (`model.int8.onnx`): accuracy {_percent(other['accuracy'])} ({_percent(one['accuracy'])} in "
             f"float32), {other['bytes'] / 1e6:.2f} MB ({one['bytes'] / 1e6:.2f})."]
    if maps:
        words.append(f"Its class maps have a rank correlation of {maps['mean']:.3f} with those of float32 on average, "
                     f"of {maps['low']:.3f} or less on one image in twenty.")
    if third := by_openvino(found.int8):
        words.append(f"By OpenVINO (`{OPENVINO[0]}`): accuracy {_percent(third['accuracy'])}, "
                     f"{third['bytes'] / 1e6:.2f} MB.")
    return " ".join(words)


def example(spec: RunSpec, details: dict[str, Any], found: Any) -> str:
    """Python lines that load and run an exported model of a run without KD Lens."""
    if found.format == "safetensors":
        return _safetensors(spec, len(details["classes"]), found.file)
    opened = _OPEN[found.format].format(file=found.file, outputs=list(found.outputs))
    imports, _, rest = opened.partition("\n\n")
    names = details["classes"]
    return ('"""Classify an image with the exported model: python example.py IMAGE"""\n\nimport sys\n'
            "from pathlib import Path\n\n"
            f"import numpy as np\nfrom PIL import Image, ImageOps\n{imports}\n\n"
            f"classes = {names!r}\nside = {details['image_size']}\n"
            "image = Image.open(sys.argv[1]).convert(\"RGB\")\n"
            "image = ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC)\n"
            "images = (np.asarray(image, np.float32) / 255).transpose(2, 0, 1)[None].copy()\n"
            f"{rest}\n"
            "chances = np.exp(found[\"logits\"][0] - found[\"logits\"][0].max())\n"
            "chances /= chances.sum()\n"
            "print({name: round(float(share), 3) for name, share in zip(classes, chances)})\n")


def _safetensors(spec: RunSpec, classes: int, file: str) -> str:
    lines = timm_lines(spec, classes, file)
    return f'"""The weights in plain timm."""\n\n{lines}\n' if lines else (
        '"""The weights by name; the network is one of KD Lens."""\n\nfrom safetensors.torch import load_file\n\n'
        f'weights = load_file("{file}")\nprint({{name: tuple(value.shape) for name, value in weights.items()}})\n')
