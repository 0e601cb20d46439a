"""A study with tables `[populations]` and `[twins]` writes, shows and reproduces comparisons of its systems."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from neurosuper import load_array, load_images, run_study
from neurosuper.comparison import compare_populations, fit_systems, twins
from neurosuper.directions import KMeans
from neurosuper.study import (
    read_populations,
    read_twins,
)
from tests.study.minimal import MINIMAL_STUDY

OTHER = MINIMAL_STUDY[MINIMAL_STUDY.index("[systems.brain]") :].replace("brain", "V4-IT")
STUDY = MINIMAL_STUDY.replace(
    "[systems",
    """finders.KMeans = { n_directions = 3 }
[populations]
measures = ["cka", "twins"]
n_rotations = 2
n_permutations = 19
n_resamples = 10
[twins]
n_permutations = 19
n_rotations = 2
[systems""",
)
STUDY += OTHER
N = 48


def write_study(folder, text=STUDY):
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / "images" / f"photo{i:02d}.png")
    shared = rng.gamma(1, 5, (5, N))
    np.save(folder / "brain.npy", shared)
    np.save(folder / "V4-IT.npy", shared[::-1] + 0.3 * rng.gamma(1, 5, (5, N)))
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """Return the file of such a study that was run, its result, and how often a finder was fitted."""
    study = write_study(tmp_path_factory.mktemp("study"))
    return study, run_study(study)


@pytest.fixture
def copied(run_once, tmp_path):
    """Return the output folder of a copy of this study."""
    shutil.copytree(run_once[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / "study_output"


def load(folder, name):
    images = load_images(folder / "images")
    return load_array(folder / f"{name}.npy", dims=("unit", "stimulus"), stimuli=images)


def test_populations_are_those_of_the_public_function(run_once):
    study, result = run_once
    found = read_populations(study.parent / "study_output" / "populations.nc")
    systems = {name: load(study.parent, name) for name in ("brain", "V4-IT")}
    expected = compare_populations(
        systems,
        {"KMeans": KMeans(3, random_state=0)},
        measures=["cka", "twins"],
        n_rotations=2,
        n_permutations=19,
        n_resamples=10,
    )
    xr.testing.assert_allclose(found, expected)
    assert found.attrs["provenance"] == result.provenance
    assert list(json.loads(result.provenance)["seconds"])[-2:] == ["populations", "twins"]


def test_twins_are_those_of_units_and_of_the_codes_that_were_scored(run_once):
    study, result = run_once
    tree = read_twins(study.parent / "study_output" / "twins.nc")
    assert [node.path for node in tree.leaves] == ["/brain | V4-IT/units", "/brain | V4-IT/KMeans"]
    assert tree.attrs["provenance"] == result.provenance
    assert tree.attrs["left_out"] == ""
    systems = {name: load(study.parent, name) for name in ("brain", "V4-IT")}
    fits = {fit.system: fit for fit in fit_systems(systems, [KMeans(3, random_state=0)], baselines=False)}
    codes = [fits[name].fitted.transform(each) for name, each in systems.items()]
    is_scored = np.isin(codes[0].stimulus.values, fits["brain"].scored)
    first = codes[0].assign_coords(split=("stimulus", np.where(is_scored, "score", "fit")))
    expected = twins(first, codes[1], n_permutations=19, n_rotations=2)
    found = tree["brain | V4-IT/KMeans"].to_dataset()
    for name in ("partner", "r", "p_adjusted", "rotated"):
        xr.testing.assert_allclose(found[name], expected[name])
    assert (found.attrs["system_a"], found.attrs["items"]) == ("brain", "KMeans")
    assert tree["brain | V4-IT/units"].partner.values.tolist() == ["4", "3", "2", "1", "0"]  # as planted
