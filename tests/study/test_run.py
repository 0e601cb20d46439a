"""A study writes every number and a report, checks its file before it computes, and reuses what earlier runs stored."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

import neurosuper.networks.recording
from neurosuper import Color, Features, KMeans, Pixel, Units, compare, load_array, load_images, run_study
from neurosuper.metrics import pairwise_distances
from neurosuper.study import read_study

MANIFEST = """
schema_version = 1
id = "mine"
title = "Five units"
species = "Macaca mulatta"
modality = "spikes"
areas = ["V4"]
doi = "unverified"
licence = "unverified"
citation = "unpublished"
homepage = "http://localhost"
loader = "load_array"
opens = "brain.npy"
source = { kind = "local", obtain = "ask me" }
files = [{ path = "brain.npy" }, { path = "images", role = "images" }]
stimulus.label = "name of the photograph"
response = { measure = "rate", units = "spikes/s", noise_ceiling = { rule = "none" } }
images = { loader = "load_images", opens = "images" }
"""


def test_a_study_writes_every_number_and_a_report(study):
    result = run_study(study)
    folder = study.parent / "study_output"
    assert sorted(path.name for path in folder.iterdir()) == ["cache", "registry.json", "report.html", "study.nc"]
    xr.testing.assert_identical(xr.load_dataset(folder / "study.nc"), result)
    assert list(dict.fromkeys(result.system.values)) == ["brain", "net first", "net second"]
    assert list(dict.fromkeys(result.finder.values)) == ["Units", "KMeans 4", "CovarianceMatched"]
    assert result.metric.values.tolist() == ["color", "Pixel"]
    assert "A small study" in (folder / "report.html").read_text()


def test_its_numbers_are_those_of_compare(study):
    result = run_study(study)
    images = load_images(study.parent / "images")
    brain = load_array(study.parent / "brain.npy", dims=("unit", "stimulus"), stimuli=images)
    finders = {"Units": Units(), "KMeans 4": KMeans(4, random_state=1)}
    expected = compare({"brain": brain}, images, finders, {"color": Color()}, top=3, random_state=1)
    mine = result.isel(item=((result.system == "brain") & (result.seed == 1)).values).sel(metric=["color"])
    assert_allclose(mine.interpretability, expected.interpretability)


def test_directions_are_kept_and_recovery_is_measured(study):
    result = run_study(study)
    numbers = study.parent / "study_output" / "study.nc"
    with xr.open_dataarray(numbers, group="directions/brain/KMeans 4/seed 0") as directions:
        assert directions.dims == ("direction", "unit")
        assert_allclose((directions**2).sum("unit"), 1, rtol=1e-5)
    assert result.recovery.sizes == {"fit": 6, "planted": 2}
    assert_allclose(result.recovery[(result.fit_finder == "Units").values], 1)


def test_provenance_states_command_seeds_versions_and_files(study):
    result = run_study(study, study.parent / "elsewhere")
    assert result.encoding["source"] == str(study.parent / "elsewhere" / "study.nc")
    provenance = json.loads(result.provenance)
    assert provenance["seeds"] == [0, 1]
    assert provenance["command"] == "neurosuper.run_study('study.toml')"
    assert provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(provenance["files"]) == {"study.toml", "images", "brain.npy", "network.py", "planted.nc"}
    assert all(len(checksum) == 64 for checksum in provenance["files"].values())
    left_out = "Left out, as they do not vary over the stimuli to fit on or to score on: 1 of 6 units of net first"
    assert left_out in result.note
    assert result.n_units_left_out == [0, 1, 0]


def test_all_stimuli_as_the_paper_does(study):
    """Directions that do not depend on the seed (units, PCA) are then counted once, not once per seed."""
    study.write_text(study.read_text().replace("top = 3", 'top = 3\nscore_on = "all"'))
    result = run_study(study)
    assert result.score_on == "all"
    n_items = result.interpretability[(result.system == "brain").values].groupby("finder").count()
    assert n_items.sel(metric="color").to_series().to_dict() == {"CovarianceMatched": 10, "KMeans 4": 8, "Units": 5}


def test_a_split_in_the_file_is_kept(study):
    brain = load_array(study.parent / "brain.npy", ("unit", "stimulus"), stimuli=study.parent / "images")
    own = brain.assign_coords(split=("stimulus", ["fit"] * 20 + ["score"] * 20))
    own.to_netcdf(study.parent / "brain.nc")
    text = study.read_text().replace("brain.npy", "brain.nc").replace('stimuli = "images"', "")
    text = text.replace('dims = ["unit", "stimulus"]', "")
    study.write_text(text[: text.index("[systems.net]")] + text[text.index("[finders.Units]") :])
    tops = set(run_study(study).top_stimuli.values.ravel())
    assert min(tops) >= "photo20"


def test_truth_is_matched_over_the_units_that_are_left(study):
    brain = np.load(study.parent / "brain.npy")
    brain[4] = 1
    np.save(study.parent / "brain.npy", brain)
    result = run_study(study)
    assert "1 of 5 units of brain, 1 of 6 units of net first" in result.note
    assert_allclose(result.recovery[(result.fit_finder == "Units").values], 1)


def test_stimuli_can_be_those_of_the_studys_images(study):
    expected = run_study(study)
    study.write_text(study.read_text().replace('stimuli = "images"', "stimuli = true"))
    assert_allclose(run_study(study).interpretability, expected.interpretability)


def test_a_dataset_is_a_system_and_has_its_images(study):
    """A study reads what `neurosuper.load` reads: by an id, or by a manifest in the folder of the study."""
    expected = run_study(study)
    (study.parent / "mine.toml").write_text(MANIFEST)
    text = study.read_text().replace('path = "images"', 'dataset = "mine.toml"\npath = "."')
    text = text.replace(
        'loader = "load_array"\npath = "brain.npy"', 'loader = "load"\ndataset = "mine.toml"\npath = "."'
    )
    study.write_text(text.replace('stimuli = "images"', "stimuli = true"))
    result = run_study(study)
    assert_allclose(result.interpretability, expected.interpretability)
    provenance = json.loads(result.provenance)
    assert "mine.toml" in provenance["files"]
    expected = {"dataset": "mine", "dataset_version": "files of the user", "doi": "unverified"}
    assert provenance["datasets"] == {"brain": expected}


def test_a_network_file_may_use_dataclasses_and_its_own_path(study):
    source = study.parent / "network.py"
    extra = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
    extra += "HERE = Path(__file__).parent\n\n\n@dataclass\nclass Settings:\n    channels: int = 6\n\n\n"
    source.write_text(extra + source.read_text())
    assert run_study(study).sizes["item"]


def test_an_interrupted_run_writes_nothing_and_a_rerun_completes(study, monkeypatch):
    """The network is interrupted in its fourth batch; the rerun passes only the missing images through it."""
    passed = []
    run_layers = neurosuper.networks.recording.run_layers

    def interrupted(model, layers, outputs, batch, **rest):
        if len(passed) == 3:
            raise KeyboardInterrupt
        return counting(model, layers, outputs, batch, **rest)

    def counting(model, layers, outputs, batch, **rest):
        if len(batch) == 8:  # not the two images by which axes are identified
            passed.append(len(batch))
        return run_layers(model, layers, outputs, batch, **rest)

    monkeypatch.setattr(neurosuper.networks.recording, "run_layers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(study)
    assert not list((study.parent / "study_output").glob("*.*"))

    monkeypatch.setattr(neurosuper.networks.recording, "run_layers", counting)
    run_study(study)
    assert passed == [8] * 5
    assert (study.parent / "study_output" / "report.html").exists()


EDITED = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    net[0].register_forward_hook(lambda module, x, y: y.flip(1))  # a line that is edited
    return net
"""
EDITS = {"the hook": ("y.flip(1)", "y * 2"), "no code of the network": ("  # a line", "  # the line")}


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_a_network_file_that_was_edited_is_run_again(study, old, new):
    """Its activations, and the embeddings of a metric that reads it, are those of a run without a cache."""
    source = study.parent / "edited.py"
    study.write_text(
        'title = "Twice"\nscore_on = "all"\ncache_embeddings = "float32"\nimages.path = "images"\nfinders.Units = {}\n'
        '[metrics.F]\nmetric = "Features"\nmodel = "edited.py:build"\nlayer = "1"\n'
        '[systems.net]\nloader = "activations"\nmodel = "edited.py:build"\nlayers = ["2"]\n'
    )
    source.write_text(EDITED)
    first = run_study(study)
    n_files = len(list((study.parent / "study_output" / "cache").rglob("*.npz")))
    source.write_text(EDITED.replace(old, new))
    again, fresh = run_study(study), run_study(study, study.parent / "fresh")
    assert_allclose(again.interpretability, fresh.interpretability)
    assert bool((again.interpretability != first.interpretability).any()) is (new == "y * 2")
    assert len(list((study.parent / "study_output" / "cache").rglob("*.npz"))) == 2 * n_files


def test_a_failure_while_writing_leaves_the_last_results_whole(study, monkeypatch):
    run_study(study)
    numbers = study.parent / "study_output" / "study.nc"
    before = numbers.read_bytes()

    def full_disk(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run_study(study)
    assert numbers.read_bytes() == before
    assert sorted(path.name for path in numbers.parent.iterdir()) == [
        "cache",
        "registry.json",
        "report.html",
        "study.nc",
    ]


def test_environment_variables_are_filled_in(study, monkeypatch):
    monkeypatch.setenv("HERE", str(study.parent))
    study.write_text(
        study.read_text().replace('"brain.npy"', '"$HERE/brain.npy"').replace('"images"', '"${HERE}/images"')
    )
    files = json.loads(run_study(study).provenance)["files"]
    assert "$HERE/brain.npy" in files, "provenance names files as the study does, not as this machine does"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("top = 3", "top = 1", "top: Input should be greater than or equal to 2"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "seeds: Value error, each may be named once"),
        ("seeds = [0, 1]", "seeds = [-1]", "seeds.0: Input should be greater than or equal to 0"),
        ("[systems.brain]", '[systems.".."]', "systems.*String should match pattern"),
        ("[systems.brain]", '[systems."net first"]', "two systems are called 'net first'"),
        ("[finders.Units]", "[finders.Units]\nrandom_state = 1", "random_state is given by the study's seeds"),
        ("top = 3", 'top = 3\ndrop_constant_units = "no"', "drop_constant_units: Input should be a valid boolean"),
        ('metric = "Color"', 'metric = "Label"', "images have no stimulus coord 'category'"),
        ("channels = 6", 'channels = "six"', "cannot build the network 'network.py:build': TypeError"),
        (
            "batch_size = 8",
            'batch_size = 8\npreprocess = "network.py:halve"',
            "Sequential fails on .*float16",
        ),
        ('truth = "planted.nc"', 'truth = "brain.npy"', "truth .*brain.npy is not a netCDF file"),
        ("top = 3", "topp = 3", "topp: Extra inputs are not permitted"),
        ("top = 3", "top = ", "is not valid TOML"),
        ('[images]\npath = "images"', "[images]", r"\[images\] needs a path"),
        ('path = "images"', 'path = "nowhere"', "no images at .*nowhere"),
        ('path = "images"', 'path = "images"\nsizes = 3', r"\[images\] got an unexpected keyword argument 'sizes'"),
        (
            'loader = "load_array"',
            'loader = "magic"',
            r"\[systems.brain\] loader must be one of load, load_nwb, load_array",
        ),
        ('path = "brain.npy"', 'path = "$UNSET_VARIABLE/b.npy"', "the environment variable UNSET_VARIABLE is not set"),
        ("network.py:build", "network.py:missing", "cannot find 'network.py:missing'"),
        ("network.py:build", "no.such.package:f", r"asks to run no.such.package:f\(channels=6\) as its model"),
        ("channels = 6", "colours = 6", "missing a required argument: 'channels'; build takes channels"),
        ('"second"', '"third"', "no layer 'third' in Sequential; similar names: first"),
        ('finder = "KMeans"', 'finder = "KMean"', r"\[finders.KMeans 4\] no finder 'KMean'; there are Units"),
        ("n_directions = 4", "n_clusters = 4", r"\[finders.KMeans 4\] got an unexpected keyword argument 'n_clusters'"),
        ('metric = "Color"', 'metric = "Colour"', r"\[metrics.color\] no metric 'Colour'"),
        ("[metrics.Pixel]", "[metrics.ImageMetric]", "no metric 'ImageMetric'"),
        (
            'stimuli = "images"',
            f"stimuli = {[str(i) for i in range(40)]}",
            "system 'brain': no stimulus label in common",
        ),
        ('truth = "planted.nc"', 'truth = "gone.nc"', "no truth file .*gone.nc"),
        (
            "top = 3",
            "top = 3\ndrop_constant_units = false",
            "zero variance over .* 'net first' .*; leave them out with",
        ),
        ("top = 3", "top = 21", "21 top stimuli asked for, but 'brain' has only 20 stimuli to score on"),
    ],
)
def test_a_mistake_in_the_file_gives_a_one_line_error_and_nothing_is_written(old, new, message, study):
    assert old in study.read_text()
    study.write_text(study.read_text().replace(old, new))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        run_study(study)
    assert "\n" not in str(caught.value)
    assert not list(study.parent.glob("study_output/*.*"))


def test_an_unwritable_output_is_refused_before_anything_is_computed(study, monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("computed before checking the output")

    monkeypatch.setattr("neurosuper.study.build.load_images", never)
    (study.parent / "taken").write_text("a file, not a folder")
    with pytest.raises(OSError, match="cannot write to .*taken: .*; choose another output folder"):
        run_study(study, study.parent / "taken")


def test_a_missing_study_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no study file .*none.toml"):
        read_study(tmp_path / "none.toml")


def test_the_error_of_a_broken_input_names_it(study):
    shutil.copy(study, study.parent / "brain.npy")
    with pytest.raises(ValueError, match=r"brain\.npy"):
        run_study(study)


FEATURES = """
[metrics.features]
metric = "Features"
model = "network.py:build"
model_args = { channels = 6 }
layer = "second"
"""


def store_embeddings(study, dtype: str) -> None:
    study.write_text(study.read_text().replace("top = 3", f'top = 3\ncache_embeddings = "{dtype}"'))


@pytest.fixture
def with_features(study, monkeypatch):
    """The study on all 40 stimuli with a metric of network features, and the number of images in each call of it."""
    embedded = []
    embed = Features.embed

    def counting(self, images):
        if getattr(self, "interrupt_at", None) == len(embedded):
            raise KeyboardInterrupt
        embedded.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(Features, "embed", counting)
    monkeypatch.setattr(Features, "batch_size", 8)
    study.write_text(study.read_text().replace("top = 3", 'top = 3\nscore_on = "all"') + FEATURES)
    return study, embedded


def test_each_image_is_embedded_once_per_metric_for_all_systems_finders_and_seeds(with_features):
    """The first image is noise, embedded as a trial of the metric."""
    study, embedded = with_features
    run_study(study)
    assert embedded == [1, 1, 8, 8, 8, 8, 7]
    assert not (study.parent / "study_output" / "cache" / "embeddings").exists()


def test_embeddings_stored_in_float32_change_no_number_and_are_made_once(with_features):
    study, embedded = with_features
    expected = run_study(study)
    store_embeddings(study, "float32")
    for n_images in (41, 1):
        embedded.clear()
        result = run_study(study)
        assert sum(embedded) == n_images
        xr.testing.assert_identical(result.drop_attrs(), expected.drop_attrs())
    assert result.metric.values.tolist() == ["color", "Pixel", "features"]
    kept = (study.parent / "study_output" / "cache" / "embeddings").glob("*/")
    assert [path.name.rsplit("-", 1)[0] for path in kept] == ["features-second"]


def test_other_finders_and_seeds_reuse_stored_embeddings(with_features):
    study, embedded = with_features
    store_embeddings(study, "float16")
    run_study(study)
    embedded.clear()
    study.write_text(
        study.read_text().replace("seeds = [0, 1]", "seeds = [7]").replace("n_directions = 4", "n_directions = 6")
    )
    run_study(study)
    assert embedded == [1]


def test_an_interrupted_embedding_continues_where_it_stopped(with_features, monkeypatch):
    study, embedded = with_features
    expected = run_study(study)
    store_embeddings(study, "float32")
    embedded.clear()
    monkeypatch.setattr(Features, "interrupt_at", 4, raising=False)
    with pytest.raises(KeyboardInterrupt):
        run_study(study)
    assert embedded == [1, 1, 8, 8]
    monkeypatch.setattr(Features, "interrupt_at", None)
    embedded.clear()
    result = run_study(study)
    assert sum(embedded) == 1 + 40 - 17
    xr.testing.assert_identical(result.drop_attrs(), expected.drop_attrs())


def test_without_zarr_storing_embeddings_is_refused_before_anything_is_computed(with_features, monkeypatch):
    study, embedded = with_features
    store_embeddings(study, "float32")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"zarr is not installed; run: pip install 'neurosuper\[zarr\]'"):
        run_study(study)
    assert not embedded


@pytest.fixture
def judged(study):
    """The study with the distances of Pixel as a given metric, in another order; and these distances."""
    distances = pairwise_distances(load_images(study.parent / "images"), Pixel())[::-1]
    distances.to_netcdf(study.parent / "judged.nc")
    study.write_text(study.read_text() + '\n[metrics.human]\nmetric = "Precomputed"\npath = "judged.nc"\n')
    return study, distances


def test_distances_may_be_given(judged):
    study, _ = judged
    result = run_study(study)
    assert result.metric.values.tolist() == ["color", "Pixel", "human"]
    assert_allclose(result.interpretability.sel(metric="human"), result.interpretability.sel(metric="Pixel"), rtol=1e-5)
    assert "judged.nc" in json.loads(result.provenance)["files"]
    assert "human" in (study.parent / "study_output" / "report.html").read_text()


def test_given_distances_may_be_named(judged):
    study, _ = judged
    study.write_text(study.read_text() + 'quantity = "judged distance (1–7)"\n')
    assert run_study(study).quantity.values[-1] == "−judged distance (1–7)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path, _: path.unlink(), r"no distances file .*judged\.nc; check the path"),
        (lambda path, _: path.write_text("a, b"), r"distances .*judged\.nc is not a netCDF file of one array"),
        (lambda path, given: given.to_dataset(name="a").assign(b=given).to_netcdf(path), "not a netCDF file of one"),
        (lambda path, given: given[:-2, 2:].to_netcdf(path), "distances must be square|no distance for stimulus"),
        (
            lambda path, given: given[2:, :-2].to_netcdf(path),
            r"\[metrics.human\] .* has no distance for stimulus .*'photo39'.*; leave these images out, or add",
        ),
        (lambda path, given: (-given).to_netcdf(path), r"judged\.nc: the distance of .* distances are at least 0"),
    ],
)
def test_an_error_in_given_distances_is_one_line(change, message, judged):
    study, given = judged
    path = study.parent / "judged.nc"
    path.unlink()
    path.touch()
    change(path, given)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        run_study(study)
    assert "\n" not in str(caught.value)
    assert not list(study.parent.glob("study_output/*.*"))


def randomized(study, how="init", loader="activations"):
    """Add a system with the network of the study, and random weights."""
    text = study.read_text()
    start = text.index("[systems.net]")
    table = text[start : text.index("[finders")].replace("systems.net", "systems.control")
    table = table.replace('loader = "activations"', f'loader = "{loader}"\nrandomize = {how!r}')
    study.write_text(text[:start] + table + text[start:])


def test_a_network_with_random_weights_is_a_system_with_a_cache_of_its_own(study):
    trained = run_study(study)
    batches = set((study.parent / "study_output" / "cache").rglob("*.npz"))
    randomized(study)
    result = run_study(study)
    both = set((study.parent / "study_output" / "cache").rglob("*.npz"))
    assert batches < both
    assert len(both) == 2 * len(batches)
    assert "Random weights (init, seed 0): control first, control second." in result.note
    net = result.isel(item=(result.system == "net second").values)
    xr.testing.assert_allclose(
        net.interpretability,
        trained.isel(item=(trained.system == "net second").values)["interpretability"].assign_coords(item=net.item),
    )
    control = result.isel(item=(result.system == "control second").values)
    assert not set(map(tuple, control.top_stimuli.values)) <= set(map(tuple, net.top_stimuli.values))
    assert_allclose(run_study(study).interpretability, result.interpretability)


def test_random_weights_are_those_of_randomize_with_the_first_seed(study):
    study.write_text(study.read_text().replace("seeds = [0, 1]", "seeds = [5]"))
    randomized(study, "shuffle")
    result = run_study(study)
    sys.path.insert(0, str(study.parent))
    try:
        model = importlib.import_module("network").build(6)
    finally:
        sys.path.remove(str(study.parent))
        sys.modules.pop("network")
    control = neurosuper.networks.randomize(model, how="shuffle", random_state=5)
    images = load_images(study.parent / "images")
    responses = neurosuper.networks.activations(control, images, ["second"], position="mean", device="cpu")
    expected = compare({"net": responses}, images, [Units()], [Color()], top=3, random_state=5)
    mine = result.isel(item=((result.system == "control second") & (result.finder == "Units")).values)
    assert_allclose(mine.interpretability.sel(metric="color"), expected.interpretability[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("how", "loader", "message"),
    [
        ("weights", "activations", "systems.control.randomize must be one of init, shuffle; got 'weights'"),
        ("init", "load_array", "systems.control.randomize is for loader = 'activations', got 'load_array'; remove it"),
    ],
)
def test_random_weights_of_another_kind_are_refused_when_the_file_is_read(study, how, loader, message):
    randomized(study, how, loader)
    with pytest.raises(ValueError, match=message) as caught:
        read_study(study)
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_initialised_again_is_named(study):
    randomized(study)
    source = study.parent / "network.py"
    source.write_text(
        source.read_text()
        .replace("nn.Conv2d(3,", "Own(3,")
        .replace("def build", "class Own(nn.Conv2d):\n    def reset_parameters(self):\n        pass\n\n\ndef build")
    )
    with pytest.raises(ValueError, match=r"^\[systems.control\] module 'first' \(Own\) has no reset_parameters that"):
        run_study(study)


def test_provenance_states_the_settings_of_each_finder(study):
    provenance = json.loads(run_study(study).provenance)
    assert provenance["finders"]["Units"] == {"finder": "Units"}
    assert provenance["finders"]["KMeans 4"] == {"finder": "KMeans", "n_directions": 4}
    assert provenance["finders"]["CovarianceMatched"] == {"finder": "CovarianceMatched", "normalize": True}
    page = (study.parent / "study_output" / "report.html").read_text()
    assert "<dt>finder KMeans 4</dt><dd>KMeans(n_directions=4)</dd>" in page
    assert "KMeans 4: K-means as in the paper, which does not subtract the mean response" in page


def test_a_study_adds_the_baseline_of_each_finder_with_every_seed_unless_it_says_no(study):
    """PCA is fitted with the first seed only, but the names of baselines are the same with all seeds."""
    text = study.read_text().replace("top = 3", 'top = 3\nscore_on = "all"')
    study.write_text(text.replace("[finders.Units]", "[finders.Units]\n[finders.PCA]"))
    result = run_study(study)
    names = dict(zip(result.finder.values.tolist(), result.baseline.values.tolist(), strict=True))
    normalized, centered = "CovarianceMatched (normalize)", "CovarianceMatched (center)"
    assert names == {"Units": "", "PCA": centered, "KMeans 4": normalized, centered: "", normalized: ""}
    seeds = {name: set(result.seed.values[(result.finder == name).values].tolist()) for name in names}
    assert seeds == {"Units": {0}, "PCA": {0}, "KMeans 4": {0, 1}, centered: {0, 1}, normalized: {0, 1}}
    page = (study.parent / "study_output" / "report.html").read_text()
    assert "Against the matched baseline" in page
    with xr.open_dataarray(result.encoding["source"], group=f"directions/brain/{normalized}/seed 1") as directions:
        assert directions.sizes["direction"] == 5
    study.write_text(study.read_text().replace("seeds = [0, 1]", "seeds = [0, 1]\nbaselines = false"))
    without = run_study(study)
    assert set(without.finder.values.tolist()) == {"Units", "PCA", "KMeans 4"}
    kept = result.isel(item=~result.finder.str.startswith("Covariance").values)
    assert_allclose(without.interpretability, kept.interpretability)


def test_a_finder_with_the_name_of_a_baseline_is_refused(study):
    study.write_text(
        study.read_text().replace("[finders.Units]", '[finders."CovarianceMatched (normalize)"]\nfinder = "PCA"')
    )
    with pytest.raises(ValueError, match=r"would have the name of another finder, 'CovarianceMatched \(normalize\)'"):
        run_study(study)
    study.write_text(study.read_text().replace("top = 3", 'top = 3\nbaselines = "no"'))
    with pytest.raises(ValueError, match="baselines: Input should be a valid boolean"):
        read_study(study)


def test_the_note_counts_directions_that_were_left_out(study, rng):
    """Half of the units of the brain are active in two photographs only."""
    brain = np.load(study.parent / "brain.npy")
    brain[:2] = 0
    brain[:2, ::9] = 1 + rng.random((2, 5))
    np.save(study.parent / "brain.npy", brain)
    result = run_study(study)
    first = result.isel(item=(result.seed == result.seed[0]).values)  # the seed whose means are shown
    inactive = ((first.n_active < 3) & (first.system == "brain") & (first.finder == "Units")).sum().item()
    assert inactive
    assert f"({inactive} of 5 by Units" in result.note
    page = (study.parent / "study_output" / "report.html").read_text()
    assert page.count("Left out in brain: items with fewer than 3 active stimuli") == 1


def grouped(study):
    """Put the images in 10 folders, which are groups of dependent stimuli."""
    for i, path in enumerate(sorted((study.parent / "images").iterdir())):
        (folder := path.parent / f"scene{i // 4}").mkdir(exist_ok=True)
        path.rename(folder / path.name)
    text = study.read_text().replace("seeds = [0, 1]", 'seeds = [0, 1]\nstimulus_groups = "category"')
    study.write_text(text.replace('path = "images"', 'path = "images"\ncategory_from = "folder"', 1))


def test_groups_of_stimuli_are_not_divided_and_the_report_says_so(study):
    """The brain has the groups of the images; the numbers are those of compare."""
    grouped(study)
    result = run_study(study)
    assert result.stimulus_groups == "category"
    assert (result.n_stimulus_groups == 5).all()
    images = load_images(study.parent / "images", category_from="folder")
    brain = load_array(study.parent / "brain.npy", dims=("unit", "stimulus"), stimuli=images)
    finders = {"Units": Units(), "KMeans 4": KMeans(4, random_state=1)}
    settings = {"top": 3, "stimulus_groups": "category", "random_state": 1}
    expected = compare({"brain": brain}, images, finders, {"color": Color()}, **settings)
    mine = result.isel(item=((result.system == "brain") & (result.seed == 1)).values).sel(metric=["color"])
    assert_allclose(mine.interpretability, expected.interpretability)
    assert_allclose(mine.difference_of_halves, expected.difference_of_halves, atol=1e-6)
    page = (study.parent / "study_output" / "report.html").read_text()
    assert "Stimuli of one category are dependent: its groups (scored on: 5) are never divided" in page
    assert "(whole groups: category)" in page


def test_groups_that_no_stimulus_has_are_refused_before_the_first_fit(study):
    study.write_text(study.read_text().replace("seeds = [0, 1]", 'seeds = [0, 1]\nstimulus_groups = "burst"'))
    message = (
        r"^\[systems.brain\] neither its stimuli nor the images have the coord 'burst', the stimulus_groups of the "
    )
    with pytest.raises(ValueError, match=message + "study; they have no coords$"):
        run_study(study)
