"""A built wheel contains everything that the package needs; dependencies are complete and safe."""

import ast
import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from setuptools import find_packages

import neurosuper

ROOT = Path(__file__).parents[1]


def modules_in(folder: Path) -> set[str]:
    """Return the names of the modules and packages of a folder."""
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py")} - {"__init__"}


ROOMS = sorted(path.parent for path in (ROOT / "neurosuper").rglob("__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_no_file_bears_the_name_of_a_public_function_or_of_a_sibling_room(room):
    """Importing such a file would replace the function or the room that an attribute of the same name stands for."""
    package = importlib.import_module(".".join(room.relative_to(ROOT).parts))
    faces = {name: face for face in (neurosuper, package) for name in getattr(face, "__all__", [])}
    functions = {name for name, face in faces.items() if not isinstance(getattr(face, name), ModuleType)}
    siblings = modules_in(room.parent) if package is not neurosuper else set()
    assert modules_in(room) & (functions | siblings) == set()


@pytest.mark.slow
def test_a_wheel_contains_every_package_and_the_manifests(tmp_path):
    source = tmp_path / "source"
    for folder in ("neurosuper", "data_manifests"):
        shutil.copytree(ROOT / folder, source / folder)
    for file in ("pyproject.toml", "setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    packages = find_packages(ROOT, include=["neurosuper*"])
    assert "neurosuper.directions._solvers" in packages
    modules = {file for package in packages for file in (ROOT / package.replace(".", "/")).glob("*.py*")}
    assert {file.relative_to(ROOT).as_posix() for file in modules} <= inside
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
        "neurosuper/report/templates/page.css",
        "neurosuper/report/templates/page.html",
    } <= inside


SAFE = {  # the first version without a known vulnerability that a file or a server could exploit
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


def test_every_imported_package_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        each
        for extra in ("lpips", "dandi", "zarr", "fmri", "distributed")
        for each in project["optional-dependencies"][extra]
    ]
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


def test_the_extra_all_has_every_extra_that_adds_abilities():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.extras == set(extras) - {"all", "docs", "test", "dev"}


def test_what_is_needed_for_few_things_is_no_dependency_of_all():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everyone = {Requirement(each).name for each in project["dependencies"]}
    assert not everyone & {"dandi", "dandischema", "lpips", "nibabel", "torchvision", "zarr"}
