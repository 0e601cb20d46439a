"""What is built must hold all that the package needs."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]


def test_every_package_is_named():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert named == sorted([*find_packages(ROOT, include=["neurosuper*"]), "neurosuper.data_manifests"])


@pytest.mark.slow
def test_a_wheel_holds_the_manifests(tmp_path):
    source = tmp_path / "source"
    for folder in ("neurosuper", "data_manifests"):
        shutil.copytree(ROOT / folder, source / folder)
    for file in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"neurosuper/data_manifests/{path.name}" for path in (ROOT / "data_manifests").iterdir() if path.is_file()
    }
    assert len(wanted) > 5
    assert wanted <= inside
    assert {"neurosuper/py.typed", "neurosuper/demo/demo.toml", "neurosuper/report/page.css"} <= inside
