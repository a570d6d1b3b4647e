"""The plan of the house, read off the syntax trees: who may import whom, and how large things may grow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom up. A part may import its own layer and those below it; never in a circle.
LAYERS = (
    ("version", "errors", "latex", "paths", "registry", "renamings", "roles", "progress", "spec", "timing", "losses",
     "observation", "openvino_runtime", "placement", "wording"),
    ("store", "torch_utils"),
    ("metrics",),
    ("datasets", "methods", "models"),
    ("inference",),
    ("explainers", "audit"),
    ("explanation_metrics",),
    ("evaluation",),
    ("inspection", "training"),
    ("experiments", "export"),
    ("reporting",),
    ("jobs",),
    ("cli", "api"),
    ("__main__", "kd", "pages", "dashboard", "benchmarks"),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

# Whatever is not here can be imported without torch, so that the first page appears at once.
WITH_TORCH = ("losses", "observation", "torch_utils.distributed_ops", "torch_utils.flops",
              "torch_utils.memory_format", "torch_utils.overrides",
              "torch_utils.resize", "torch_utils.rng", "torch_utils.smoothing", "metrics.inpainting",
              "datasets.tensors", "models", "methods",
              "inference.choice", "inference.engine", "inference.fast_model", "inference.openvino_engine",
              "explainers", "explanation_metrics", "evaluation.context", "evaluation.explanations",
              "evaluation.predict", "inspection", "training.augmentation", "training.batches", "training.checkpoint",
              "training.epoch_source", "training.first_epoch", "training.frozen_features", "training.image_counts",
              "training.loop", "training.predictions",
              "training.random_masks", "training.training_images", "training.step",
              "training.tracked_images", "training.teacher.cached_network",
              "training.teacher.cached_teacher", "training.teacher.out_of_fold", "training.teacher.pending",
              "training.teacher.rows",
              "training.teacher.target_maps",
              "experiments.estimate", "experiments.step_benchmark", "export.check",
              "export.dicom.capture", "export.dicom.labels", "export.dicom.maps", "export.dicom.segmentation",
              "export.int8", "export.int8_report", "export.onnx_file", "export.openvino_int8", "export.program",
              "export.run", "reporting.build", "reporting.content", "reporting.maps", "api")
HEAVY = ("torch", "torchvision", "timm", "lightning_fabric", "pytorch_grad_cam", "captum", "sklearn", "imagehash",
         "matplotlib", "onnx", "onnxruntime", "openvino", "nncf", "pydicom", "nibabel", "pandera", "imagecodecs",
         "tifffile", "highdicom", "jinja2")


def sources(*tops: str) -> list[Path]:
    """Python files under these tops, relative to the root."""
    found = [path for top in tops for path in ([ROOT / top] if top.endswith(".py") else (ROOT / top).rglob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in found if path.exists())


ENGINE = sources("kd")
PAGES = sources("dashboard.py", "pages")
OURS = [*ENGINE, *PAGES, *sources("benchmarks")]
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in OURS}


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def part(module: str) -> str:
    """`kd.datasets.base` is of the part `datasets`, `pages.parts.shared.layout` of `pages`."""
    words = module.split(".")
    return words[1] if words[0] == "kd" and len(words) > 1 else words[0]


def needs_torch(module: str) -> bool:
    """Whether a module, or the part it belongs to, is listed in WITH_TORCH."""
    return part(module) in WITH_TORCH or module.removeprefix("kd.") in WITH_TORCH


def imported(node: ast.AST) -> list[str]:
    """Full names of the modules that an import statement names; of ours down to the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: write imports in full, not relative"
        base = node.module or ""
        return [name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names]
    return []


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, also inside functions."""
    for node in ast.walk(tree(path)):
        for module in imported(node):
            yield node.lineno, module  # type: ignore[attr-defined]


def imports_at_once(nodes: list[ast.stmt]) -> Iterator[str]:
    """Modules that are imported when the file is: not those inside functions, nor those for the type checker."""
    for node in nodes:
        yield from imported(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from imports_at_once(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from imports_at_once(handler.body)


def links() -> Iterator[tuple[Path, int, str, str]]:
    """(file, line, importing part, imported part) within the project."""
    for name, path in MODULES.items():
        for line, module in imports(path):
            if module.split(".")[0] in ("kd", "pages", "dashboard", "benchmarks"):
                yield path, line, part(name), part(module)


def fail_with(lines: list[str]) -> None:
    if lines:
        pytest.fail("\n" + "\n".join(lines), pytrace=False)


def test_every_part_has_a_place_in_the_layers():
    homeless = {part(name) for name in MODULES} - set(RANK)
    fail_with([f"{name} stands in no layer: give it a place in LAYERS" for name in sorted(homeless)])


def test_imports_go_down_only():
    fail_with([f"{path}:{line}: {user} (layer {RANK[user]}) must not import {used} (layer {RANK[used]}), which is above"
               for path, line, user, used in links() if RANK.get(user, 99) < RANK.get(used, 0)])


def test_no_part_imports_itself_in_a_circle():
    needs: dict[str, set[str]] = {}
    for _, _, user, used in links():
        needs.setdefault(user, set()).update({used} - {user})
    while free := [name for name in needs if not needs[name] & set(needs)]:
        for name in free:
            del needs[name]
    fail_with([f"{name} imports {', '.join(sorted(used & set(needs)))}: in a circle" for name, used in needs.items()])


def test_streamlit_stays_in_the_pages():
    fail_with([f"{path}:{line}: {module} outside dashboard.py and pages/" for path in sources("kd", "benchmarks")
               for line, module in imports(path) if module.split(".")[0] == "streamlit"])


def torch_free() -> list[str]:
    return [name for name in MODULES if name.split(".")[0] == "kd" and not needs_torch(name)]


def test_engine_without_torch():
    """Each in turn in one fresh process, so the first that drags something heavy in is the culprit."""
    code = f"""
import importlib, sys
for name in {torch_free()!r}:
    importlib.import_module(name)
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    if heavy:
        sys.exit(f"importing {{name}} also imports {{', '.join(heavy)}}: import it where it is used")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_first_page_without_torch():
    seen: set[str] = set()
    waiting = [name for name in MODULES if name in ("dashboard", "pages.home")]
    while waiting:
        name = waiting.pop()
        if name in MODULES and name not in seen:
            seen.add(name)
            waiting += imports_at_once(tree(MODULES[name]).body)
        assert not needs_torch(name), f"dashboard.py reaches {name}, which imports torch"
        assert name.split(".")[0] not in HEAVY, f"dashboard.py reaches a module that imports {name}"
    assert "dashboard" in seen


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_pages_leave_arrays_to_the_engine(path: Path):
    fail_with([f"{path}:{line}: pages show, kd/ computes: {module}" for line, module in imports(path)
               if module.split(".")[0] in HEAVY])


@pytest.mark.parametrize("path", ENGINE, ids=str)
def test_engine_module_says_what_it_is_and_prints_nothing(path: Path):
    module = tree(path)
    assert ast.get_docstring(module), f"{path} has no docstring"
    if path.name != "__main__.py":
        fail_with([f"{path}:{node.lineno}: print" for node in ast.walk(module)
                   if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"])


@pytest.mark.parametrize(("tops", "limit"), [(("kd", "pages", "dashboard.py", "benchmarks"), 320), (("tests",), 500)])
def test_files_stay_small(tops: tuple[str, ...], limit: int):
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in sources(*tops)}
    fail_with([f"{path}: {lines} lines, more than {limit}: cut it where the questions differ"
               for path, lines in lengths.items() if lines > limit])


def test_functions_stay_short():
    functions = [(path, node) for path in OURS for node in ast.walk(tree(path))
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    fail_with([f"{path}:{node.lineno}: {node.name} has {lines} lines, more than 70" for path, node in functions
               if (lines := (node.end_lineno or 0) - node.lineno + 1) > 70])


def test_every_module_has_its_tests():
    """`kd/p/x.py` has tests/test_p_x.py (a topic may follow), is tested with its package in tests/test_p.py, or is
    imported by a test."""
    tests = [path.stem for path in sources("tests")]
    used = {name for path in sources("tests") for _, name in imports(path)}
    missing = []
    for name, path in MODULES.items():
        words = [word for word in name.split(".")[1:] if word not in ("__init__", "__main__")]
        own, package = (f"test_{'_'.join(part)}" for part in (words, words[:-1]))
        if path in ENGINE and words and len(tree(path).body) > 1 and name not in used and not any(
                stem in (own, package) or stem.startswith(f"{own}_") for stem in tests):
            missing.append(f"{path} has no test file: tests/{own}.py")
    fail_with(missing)
