"""What is built must hold all that the package needs."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
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
    assert {
        "neurosuper/py.typed",
        "neurosuper/__init__.pyi",
        "neurosuper/loaders/nwb/__init__.pyi",
        "neurosuper/demo/demo.toml",
        "neurosuper/report/page.css",
    } <= inside


SAFE = {  # the first version without a known hole that a file or a server could use
    "filelock": "3.20.3",  # CVE-2025-68146, CVE-2026-22701
    "h5py": "3.14",  # HDF5 1.14.6: CVE-2026-26200 and those of 2024
    "numcodecs": "0.16.6",  # GHSA-jqc8-qjfv-5m6r
    "pillow": "12.3",  # CVE-2026-25990, CVE-2026-59199
    "requests": "2.32.4",  # CVE-2024-47081
    "torch": "2.10",  # CVE-2025-32434 (2.6), CVE-2026-24747
    "tqdm": "4.66.3",  # CVE-2024-34062
    "urllib3": "2.7",  # CVE-2025-66471, CVE-2026-44431, CVE-2026-44432
}


def test_floors_exclude_versions_with_known_holes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = {each.name: each.specifier for each in map(Requirement, [*project["dependencies"], *extras["zarr"]])}
    for name, safe in SAFE.items():
        (floor,) = [Version(part.version) for part in asked[name] if part.operator == ">="]
        assert floor >= Version(safe), name


def test_what_is_imported_is_asked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in ("zarr", "fmri", "distributed") for each in project["optional-dependencies"][extra]]
    asked = {Requirement(each).name.lower() for each in [*project["dependencies"], *extras]}
    named = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "lazy_loader": "lazy-loader",
        "llvmlite": "numba",
    }  # numba asks for one version of it
    for path in (ROOT / "neurosuper").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {module.partition(".")[0] for module in modules} - {"neurosuper", ""}:
                assert top in sys.stdlib_module_names or named.get(top, top).lower() in asked, (path, top)
