"""The package that `pip install` builds, from the files of this checkout."""

import email
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kd.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The built wheel; what lies beside the package in a checkout lies beside it here too."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("kd", "pages"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, copy)
    for folder in ("data", "checkpoints", "tests"):
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(copy / "dist" / done.stdout.split()[-1])


def test_the_engine_whole_and_nothing_else_is_installed(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kd").rglob("*.py")}
    assert held == ours | {"kd/py.typed", "kd/models/catalogue.txt", "kd/reporting/report.html"}


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(next(each for each in wheel.namelist() if each.endswith(f".dist-info/{name}"))).decode()


def pins(name: str) -> set[str]:
    lines = (re.sub(r"#.*", "", line).strip() for line in (ROOT / name).read_text().splitlines())
    return {str(Requirement(line)) for line in lines if line}


def test_what_it_needs_is_what_the_requirements_files_say(wheel):
    facts: Message = email.message_from_string(metadata(wheel, "METADATA"))
    needed = [Requirement(line) for line in facts.get_all("Requires-Dist", [])]
    assert {str(one) for one in needed if one.marker is None} == pins("requirements.txt")
    for extra in ("ray", "shap"):
        found = {f"{one.name}{one.specifier}" for one in needed if one.marker and f'"{extra}"' in str(one.marker)}
        assert found == pins(f"requirements-{extra}.txt")


def test_version_and_command(wheel):
    assert email.message_from_string(metadata(wheel, "METADATA"))["Version"] == VERSION
    assert "kd = kd.__main__:main" in metadata(wheel, "entry_points.txt")
