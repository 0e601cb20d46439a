"""Importing the package, or one thing from it, loads no library that this does not need; the names are typed."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import xarray as xr

import neurosuper

HEAVY = {"dandi", "dask", "matplotlib", "pynwb", "sklearn", "torch"}
ROOMS = [name for name in neurosuper.__all__ if isinstance(getattr(neurosuper, name), ModuleType)]


def modules_after(code: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(ran.stdout.split())


def test_import_is_light():
    loaded = modules_after("import neurosuper")
    assert "neurosuper" in loaded
    assert not loaded & (HEAVY | {"numpy", "xarray", "PIL"}), "list its public name in __init__.pyi"


@pytest.mark.parametrize(
    ("code", "also_unwanted"),
    [
        ("from neurosuper import load_array, load_images, inference, responses; inference.permutation_test", {"pynwb"}),
        ("from neurosuper import load_nwb", set()),
    ],
    ids=["arrays, images and inference", "NWB"],
)
def test_responses_images_loaders_and_inference_need_no_torch(code, also_unwanted):
    loaded = modules_after(code)
    assert "xarray" in loaded
    assert not loaded & ({"torch", "matplotlib", "dandi", "sklearn"} | also_unwanted)


def test_only_pretrained_trunks_need_torchvision():
    names = "Color, KMeans, Pixel, average_repetitions, compare, top_stimuli"
    assert not modules_after(f"from neurosuper import {names}") & {"torchvision", "torch._dynamo", "matplotlib"}


WITHOUT_EXTRAS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torchvision", "lpips", "dandi", "dandischema", "nibabel", "distributed", "zarr"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Refuse())
import neurosuper as ns
"""

COMPARE = """
import numpy as np
import xarray as xr

rng = np.random.default_rng(0)
images = ns.load_images(rng.integers(0, 255, (20, 8, 8, 3), dtype=np.uint8))
labels = {"stimulus": images.stimulus.values, "unit": list("abcd")}
responses = xr.DataArray(rng.gamma(1, 5, (20, 4)), labels, ("stimulus", "unit"))
table = ns.compare({"V4": responses}, images, [ns.Units(), ns.PCA(2)], [ns.Color()])
assert table.sizes["item"] == 4 + 2 + 4 and table.interpretability.notnull().all()
"""


DEMO = """
from neurosuper.cli import main
assert main(["demo", "demo", "--offline"]) == 0
"""

LPIPS = """
from neurosuper.metrics.lpips import hub_file
for use in (ns.LPIPS, lambda: hub_file("alex")):
    try:
        use()
    except ImportError as error:
        print(error)
"""


def run_without_extras(code: str, folder: Path) -> str:
    """Return what some code prints where no extra is installed."""
    environment = os.environ | {"PYTHONPATH": str(Path(neurosuper.__file__).parents[1])}
    command = [sys.executable, "-c", WITHOUT_EXTRAS + code]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment).stdout


def test_compare_works_where_no_extra_is_installed(tmp_path):
    run_without_extras(COMPARE, tmp_path)


def test_without_its_extra_lpips_names_the_command_that_installs_it(tmp_path):
    lines = run_without_extras(LPIPS, tmp_path).splitlines()
    command = "is not installed; run: pip install 'neurosuper[lpips]'"
    assert lines == [f"torchvision {command}", f"torchvision.models {command}"]


@pytest.mark.slow
def test_the_demo_runs_where_no_extra_is_installed(tmp_path):
    said = run_without_extras(DEMO, tmp_path)
    assert "LPIPS was left out: torchvision is not installed; run: pip install 'neurosuper[lpips]'." in said
    assert (tmp_path / "demo" / "report.html").is_file()
    with xr.open_dataset(tmp_path / "demo" / "study.nc") as numbers:
        assert numbers.interpretability.notnull().any()


@pytest.mark.parametrize("name", sorted(set(neurosuper.__all__) - set(ROOMS)))
def test_every_public_name_resolves(name):
    assert callable(getattr(neurosuper, name))
    assert name in dir(neurosuper)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_attributes_and_no_callables(room):
    module = getattr(neurosuper, room)
    assert not callable(module)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None


def test_public_names_are_sorted_and_each_there_once():
    assert neurosuper.__all__ == sorted(set(neurosuper.__all__))


def test_functions_that_a_room_could_hide_show_their_own_signature():
    assert list(inspect.signature(neurosuper.compare).parameters)[:4] == ["systems", "images", "finders", "metrics"]
    assert next(iter(inspect.signature(neurosuper.load).parameters)) == "dataset"


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'pca'; it has .*KMeans, .*PCA, .*top_stimuli") as caught:
        neurosuper.pca  # noqa: B018
    assert "\n" not in str(caught.value)
    assert not hasattr(neurosuper, "load_everything")
