"""Importing the package, or one thing from it, loads no library that this does not need."""

import subprocess
import sys

import pytest

import neurosuper

HEAVY = {"dandi", "dask", "matplotlib", "pynwb", "sklearn", "torch"}


def modules_after(code: str) -> set[str]:
    """Return the names of the top-level modules that a fresh interpreter holds after some code."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(ran.stdout.split())


def test_import_is_light():
    loaded = modules_after("import neurosuper")
    assert "neurosuper" in loaded
    assert not loaded & (HEAVY | {"numpy", "xarray", "PIL"}), (
        "import it where it is used, or list its public name in neurosuper._ROOMS"
    )


@pytest.mark.parametrize("name", ["check_responses", "load_images", "load_array", "load_nwb", "permutation_test"])
def test_responses_images_loaders_and_inference_need_no_torch(name):
    loaded = modules_after(f"from neurosuper import {name}")
    unwanted = {"torch", "matplotlib", "dandi", "sklearn"} | (set() if name == "load_nwb" else {"pynwb"})
    assert "xarray" in loaded
    assert not loaded & unwanted


@pytest.mark.parametrize("name", neurosuper.__all__)
def test_every_public_name_resolves(name):
    assert callable(getattr(neurosuper, name))
    assert name in dir(neurosuper)


def test_public_names_are_sorted_and_each_there_once():
    assert neurosuper.__all__ == sorted(set(neurosuper.__all__))


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'pca'; it has .*KMeans, .*PCA, .*top_stimuli") as caught:
        neurosuper.pca  # noqa: B018
    assert "\n" not in str(caught.value)
    assert not hasattr(neurosuper, "load_everything")
