"""An editor and a type checker see what the package offers: its names, their signatures, and what is misspelt."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import neurosuper

ROOT = Path(__file__).parents[1]
STUBS = sorted((ROOT / "neurosuper").rglob("*.pyi"))

MISTAKES = {  # a line of a user's file: the error that mypy reports for it
    "ns.not_there": 'Module has no attribute "not_there"',
    "ns.plot.not_there": 'Module has no attribute "not_there"',
    "ns.comparison.summarise(table)": 'Module has no attribute "summarise"; maybe "summarize"?',
    "ns.KMeans(n_direction=3)": 'Unexpected keyword argument "n_direction" for "KMeans"; did you mean "n_directions"?',
    "ns.KMeans(3, nonsense=True)": 'Unexpected keyword argument "nonsense" for "KMeans"',
    "ns.PCA(n_directions=[3])": 'Argument "n_directions" to "PCA" has incompatible type "list[int]"',
    'ns.LPIPS("alexnet")': 'Argument 1 to "LPIPS" has incompatible type "Literal[\'alexnet\']"',
    'ns.normalize(v4, how="zcsore")': 'Argument "how" to "normalize" has incompatible type "Literal[\'zcsore\']"',
    "ns.compare(images=images, finders=finders, metrics=metrics)": 'Missing positional argument "systems" in call to',
    'ns.compare({"V4": v4}, images, finders, ["LPIPS"])': 'List item 0 has incompatible type "str"; expected "ImageMet',
    'ns.compare({"V4": v4}, images, finders, metrics, 5)': 'Too many positional arguments for "compare"',
    "ns.top_stimuli(v4, 5)": 'Too many positional arguments for "top_stimuli"',
    "ns.load_images('photographs.zip', 64)": 'Too many positional arguments for "load_images"',
    "n_units: int = ns.select_units(v4, reliability=0.3)": "Incompatible types in assignment (expression has type",
}
CORRECT = """
import neurosuper as ns

images = ns.load_images("photographs.zip", size=64)
v4 = ns.load_nwb("session.nwb", stimulus_column="image", window=(0.07, 0.17))
v4 = ns.average_repetitions(ns.select_units(v4, reliability=0.3))
finders = [ns.Units(), ns.Random("2x"), ns.PCA(), ns.KMeans("2x", random_state=1)]
metrics = [ns.LPIPS("alex", layer=3), ns.Color(), ns.Pixel()]
table = ns.compare({"V4": v4}, images, finders, metrics, top=5)
ns.plot.plot_distributions(table, metric="color")
ns.comparison.summarize(table)
ns.inference.adjust_p_values(ns.contrast_finders(table).p_value)
"""
# the types of these libraries take mypy 15 s to read, and no line above needs them
SETTINGS = "[mypy]\n[mypy-torch.*,torchvision.*,sklearn.*,scipy.*,matplotlib.*,dask.*,pydantic.*,pynwb.*]\n"


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, dict[int, str]]:
    """Return the errors that mypy reports for each of the two files, by line."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("user")
    (folder / "mistakes.py").write_text(CORRECT + "\n".join(MISTAKES), encoding="utf-8")
    (folder / "correct.py").write_text(CORRECT, encoding="utf-8")
    (folder / "mypy.ini").write_text(f"{SETTINGS}follow_imports = skip\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--hide-error-codes", "--no-pretty"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    checked = [*command, "correct.py", "mistakes.py"]
    ran = subprocess.run(checked, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.stderr == ""
    found: dict[str, dict[int, str]] = {"correct.py": {}, "mistakes.py": {}}
    for file, line, message in re.findall(r"^(\w+\.py):(\d+): error: (.*)$", ran.stdout, flags=re.MULTILINE):
        assert int(line) not in found[file], f"two errors in one line: {message}"
        found[file][int(line)] = message
    assert f"Found {len(found['mistakes.py'])} errors in 1 file (checked 2 source files)" in ran.stdout
    return found


@pytest.mark.slow
def test_a_correct_file_has_no_error(errors):
    assert errors["correct.py"] == {}


@pytest.mark.slow
def test_each_planted_mistake_is_reported_and_nothing_else(errors):
    first = CORRECT.count("\n") + 1
    expected = dict(enumerate(MISTAKES, first))
    assert {line: expected.get(line) for line in errors["mistakes.py"]} == expected
    for line, (mistake, message) in enumerate(MISTAKES.items(), first):
        assert errors["mistakes.py"][line].startswith(message), mistake


def names_of(stub: Path) -> dict[str, str]:
    """Return the module that a stub takes each of its names from, relative to the stub's own package."""
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: node.module or "" for node in imports for alias in node.names}


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_a_stub_is_true(stub):
    """Its names are what `__all__` and `dir()` list, and each is the object that its file defines."""
    package = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
    names = names_of(stub)
    assert sorted(package.__all__) == sorted(names)
    assert set(names) <= set(dir(package))
    for name, module in names.items():
        source = importlib.import_module(f".{module or name}", package.__name__)
        assert getattr(package, name) is (getattr(source, name) if module else source)


def test_every_room_at_the_top_has_a_stub_or_lists_its_names():
    rooms = [name for name, module in names_of(ROOT / "neurosuper/__init__.pyi").items() if not module]
    assert {"plot", "inference", "responses"} <= set(rooms)
    for room in rooms:
        module = getattr(neurosuper, room)
        assert (ROOT / "neurosuper" / room / "__init__.pyi") in STUBS or module.__file__.endswith(f"{room}.py")
        assert {name for name in module.__all__ if name.startswith("_")} == set()
        assert set(module.__all__) <= set(dir(module))


def test_every_name_that_the_documentation_writes_out_is_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("tutorials/*.py"), *ROOT.rglob("tutorials/*.md")]
    written = re.compile(r"(?<![\w./\"'-])(?<!from )(?<!import )(?:ns|neurosuper)((?:\.[A-Za-z]\w*){1,2})")
    n_names = 0
    for page in [*pages, *ROOT.rglob("neurosuper/*.py")]:
        for path in written.findall(page.read_text(encoding="utf-8")):
            name, *inner = path.removeprefix(".").split(".")
            found = getattr(neurosuper, name, None)
            assert found is not None, f"{page.relative_to(ROOT)}: neurosuper{path}"
            if isinstance(found, ModuleType) and inner:
                assert hasattr(found, inner[0]), f"{page.relative_to(ROOT)}: neurosuper{path}"
            n_names += 1
    assert n_names > 50
