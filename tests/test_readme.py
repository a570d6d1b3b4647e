"""The README and the documents beside it: their Python and their commands run, their links and tables are true."""

import re
import shlex
import subprocess
from argparse import ArgumentParser, _SubParsersAction
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small import DATA, SIZE

import kd
from benchmarks import readme_table
from kd.__main__ import main
from kd.cli.parser import parser
from kd.experiments import demo
from kd.experiments.plan import DistillSpec
from kd.explainers import EXPLAINERS
from kd.methods import METHODS, complete

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/cli.md", "docs/guide.md", "docs/recipes.md", "data/README.md",
             "checkpoints/README.md", "CHANGELOG.md")
TINY = {"data": DATA, "image_size": SIZE, "epochs": 1, "batch_size": 8, "seeds": 2}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START = re.compile(r"(?:\.venv/bin/)?(?:python -m )?kd (?=[a-z])|(?:.* -- |.*torchrun \S+ \d+ -m )kd (?=[a-z])")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a document in this language; "" for those that name none."""
    return [block for kind, block in FENCED.findall(text(name)) if kind == language]


def lines(name: str) -> list[str]:
    """The command lines of a document: those of its shell blocks, without comments, prompts and quoted output."""
    shown = [line[2:] for block in blocks(name, "console") for line in _joined(block) if line.startswith("$ ")]
    found = [*shown, *(line for block in blocks(name, "") for line in _joined(block))]
    return [command for line in found if (command := line.split("  #")[0].strip())]


def _joined(block: str) -> list[str]:
    """Its lines, those that go on after a backslash as one."""
    return block.replace("\\\n", "").split("\n")


def commands(name: str) -> list[list[str]]:
    """What follows `kd` in every command line of a document."""
    return [shlex.split(line[start.end():]) for line in lines(name) if (start := START.match(line))]


def mentioned(name: str) -> list[list[str]]:
    """What follows `kd` between backticks, where a command may be named by its first words alone."""
    inline = re.findall(r"`([^`\n]+)`", FENCED.sub("", text(name)))
    return [shlex.split(code[start.end():]) for code in inline if (start := START.match(code)) and "…" not in code]


def verbs() -> dict[str, ArgumentParser]:
    action = next(each for each in parser()._actions if isinstance(each, _SubParsersAction))
    return dict(action.choices)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def snippet(root) -> dict[str, Any]:
    """The names that the README's Python defines, run on a small data set in an empty folder."""
    calls: list[DistillSpec] = []

    def tiny(data: str, **settings: Any) -> kd.Experiment:
        own = {name: settings[name] for name in METHODS[settings["method"]].info.hyperparameters if name in settings}
        rest = {name: value for name, value in settings.items() if name not in (*own, "preset")}
        calls.append(DistillSpec(data=data, **rest, method_args=own))
        return distill(progress=False, root=root, **{**settings, **TINY})

    distill, names = kd.distill, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_LENS_LOCK", str(root / "worker.lock"))
        patch.chdir(root)
        patch.setattr(kd, "distill", tiny)
        for block in blocks("README.md", "python"):
            exec(compile(block, "README.md", "exec"), names)
    assert len(calls) == 1
    return {**names, "settings": calls[0]}


def test_the_python_runs(snippet, root):
    assert (root / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert (root / "out" / "explanation.png").read_bytes().startswith(b"\x89PNG")
    assert snippet["maps"].target == 2
    assert snippet["loss"].ndim == 0 and snippet["loss"] > 0


def test_the_python_command_line_and_table_are_of_the_same_runs(snippet):
    """So what one has trained, the others find."""
    assert readme_table.request() == replace(demo.REQUEST, seeds=readme_table.SEEDS)
    assert _completed(snippet["settings"]) == _completed(readme_table.request())
    shown = next(words for words in commands("README.md") if words[0] == "distill")
    args = vars(parser().parse_args(shown))
    given = {name: value for name, value in args.items() if value is not None and name in vars(readme_table.request())}
    own = {name.removeprefix("knob_"): value for name, value in args.items() if name.startswith("knob_") and value}
    assert _completed(DistillSpec(**given, method_args=own)) == _completed(readme_table.request())


def _completed(request: DistillSpec) -> DistillSpec:
    return replace(request, method_args=complete(request.method, request.method_args))


def test_the_transcript_runs(snippet, root, capsys, monkeypatch):
    """Its verbs in turn, on the small runs, print tables of the columns that are quoted."""
    monkeypatch.chdir(root)
    Image.fromarray(snippet["image"]).save(root / "scan.png")
    quoted = blocks("README.md", "console")[0]
    tiny = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    for words in commands("README.md"):
        if words[0] == "distill":
            words = [*words, *tiny]
        words = [snippet["run"].student.id if word.startswith("phantom_brain-plain") else word for word in words]
        words = [DATA if word.startswith("phantom-brain:") else word for word in words]
        assert main([*words, "--root", str(root)]) == 0, capsys.readouterr().err
        out, err = capsys.readouterr()
        header = out.splitlines()[0]
        assert "training" not in err
        assert _columns(header) in map(_columns, quoted.splitlines()), f"{words[0]} prints {header!r}"


def _columns(line: str) -> list[str]:
    """The words of a table's first line; the probability in it is of the class that was predicted."""
    return re.sub(r"p\(\w+\)", "p()", line).split()


def test_the_table_has_the_form_that_the_command_prints(snippet):
    run = snippet["run"]
    printed = readme_table.table(run, run.compare(snippet["image"])).splitlines()
    quoted = [line for line in text("README.md").splitlines() if line.startswith("| **") or line == printed[0]]
    assert len(quoted) == len(printed) - 1
    assert printed[1] in text("README.md")
    for ours, theirs in zip([printed[0], *printed[2:]], quoted, strict=True):
        assert _form(ours) == _form(theirs)


def _form(line: str) -> str:
    """A row with every number as #."""
    return re.sub(r"[+−]?\d[\d,.]*", "#", line)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_are_understood(name):
    known = verbs()
    for words in commands(name):
        parser().parse_args(words)
    for verb, *words in mentioned(name):
        assert {word for word in words if word.startswith("-")} <= set(known[verb]._option_string_actions), verb


def test_documents_show_commands():
    """Or the test above would hold for none."""
    assert {"distill", "compare"} <= {words[0] for words in commands("README.md")}
    assert ["demo", "--out", "out/demo"] in mentioned("README.md")
    assert {"sweep", "layers", "data-efficiency", "datasets"} <= {words[0] for words in commands("docs/cli.md")}
    assert ["train", "--data", "phantom-brain", "--model", "plain"] in commands("docs/cli.md")


def test_the_list_of_verbs_is_whole():
    rows = re.findall(r"^\| `[a-z].*$", text("docs/cli.md"), re.MULTILINE)
    listed = {row.split("`")[1].split()[0]: row for row in rows}
    known = verbs()
    assert set(listed) == set(known)
    for verb, row in listed.items():
        assert set(re.findall(r"--[a-z0-9-]+", row)) <= set(known[verb]._option_string_actions), verb


@pytest.mark.parametrize("name", DOCUMENTS)
def test_programs_and_targets_exist(name):
    for line in lines(name):
        words = shlex.split(line)
        if words[0] == "make":
            done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        elif "-m" in words and words[words.index("-m") + 1].startswith("benchmarks."):
            assert find_spec(words[words.index("-m") + 1]), line
        elif words[0] == "bash":
            assert (ROOT / words[1]).is_file(), line
        elif words[0].startswith("."):
            assert words[0].startswith(".venv/") or (ROOT / words[0]).exists(), line
        else:
            assert words[0] in ("kd", "python", "fabric", "torchrun"), line


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(name)):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [title.lower().replace(" ", "-") for title in titles], target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_variables_and_files_of_the_project_exist(name):
    files = (path for top in ("kd", "pages", "tests") for path in (ROOT / top).rglob("*.py"))
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    for variable in set(re.findall(r"KD_LENS_[A-Z_]+", text(name))):
        assert variable in code, variable
    for path in re.findall(r"`((?:kd|tests|pages|benchmarks)/[\w/.]*)`", text(name)):
        assert (ROOT / path).exists(), path


def test_methods_and_explainers_are_counted_right():
    words = {10: "ten", 11: "eleven", 12: "twelve", 18: "eighteen", 19: "nineteen", 20: "twenty"}
    taught = [name for name in METHODS if METHODS[name].needs_teacher]
    assert f"{words[len(taught)]} methods" in text("README.md")
    assert f"{words[len(list(EXPLAINERS))]} explainers" in text("README.md")
    assert f"{words[len(list(EXPLAINERS))]} explainers" in text("CHANGELOG.md")
    assert all(f"`{name}`" in text("docs/guide.md") for name in METHODS)


def test_the_figure_is_small():
    """It is fetched with every clone."""
    assert (ROOT / "docs" / "comparison.png").stat().st_size < 300_000
