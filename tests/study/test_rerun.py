"""A rerun of a study finds every number that differs, and says what changed since the recorded run."""

import json
import shutil

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr

import neurosuper.metrics.features
import neurosuper.networks.recording
from neurosuper import reproduce, run_study
from tests.study.minimal import MINIMAL_STUDY

SMALL = MINIMAL_STUDY.replace("finders.Units = {}", "finders.Units = {}\nfinders.KMeans = { n_directions = 3 }")
OF_NETWORK = """
title = "A network"
images.path = "images"
finders.Units = {}
metrics.F = { metric = "Features", model = "network.py:build", model_args = { channels = 6 }, layer = "first" }
[systems.net]
loader = "activations"
model = "network.py:build"
model_args = { channels = 6 }
layers = ["second"]
"""


@pytest.fixture
def small(study):
    """`study.nc` of a recording of five units."""
    study.write_text(SMALL)
    run_study(study)
    return study.parent / "study_output" / "study.nc"


def edit_provenance(path, **changed):
    with netCDF4.Dataset(path, "a") as file:
        provenance = json.loads(file.provenance)
        for key, value in changed.items():
            provenance[key] = provenance[key] | value if isinstance(value, dict) else value
        file.provenance = json.dumps(provenance)


def test_the_same_study_gives_the_same_numbers(study):
    """With a network, planted directions and two seeds; nothing in the folder of the study changes."""
    run_study(study)
    folder = study.parent / "study_output"
    before = {path: path.stat().st_mtime_ns for path in [study.parent, *study.parent.rglob("*")]}
    found = reproduce(folder / "study.nc")
    assert found.same
    assert found.differences.empty
    assert found.reasons == []
    assert {path: path.stat().st_mtime_ns for path in [study.parent, *study.parent.rglob("*")]} == before
    result = xr.load_dataset(folder / "study.nc")
    n_numbers = sum(result[name].size for name in result.data_vars)
    assert found.n_compared > n_numbers
    assert "is reproduced" in repr(found)


def test_every_variable_and_every_group_of_directions_is_compared(study):
    """One number of each is changed; each is found, with its place and both values."""
    run_study(study)
    path = study.parent / "study_output" / "study.nc"
    labels = {"item", "seed", "fit_seed"}
    with netCDF4.Dataset(path, "a") as file:
        file.set_auto_mask(False)
        numeric = {name for name, variable in file.variables.items() if np.dtype(variable.dtype).kind in "iuf"} - labels
        for name in numeric:
            values = file[name][...]
            values.flat[-1] = 0 if np.isnan(values.flat[-1]) else values.flat[-1] + 1
            file[name][...] = values
        for system in ("brain", "net first", "net second"):
            file[f"directions/{system}/KMeans 4/seed 1"]["directions"][0, 0] += 0.01
    found = reproduce(path).differences
    assert set(found.variable) == {*numeric, "directions"}
    assert {"interpretability", "corrected", "influence", "n_active", "recovery"} <= numeric
    assert set(found[found.variable == "interpretability"].metric) == {"Pixel"}
    rows = found[found.variable == "directions"]
    assert rows.system.tolist() == ["brain", "net first", "net second"]
    assert rows.finder.tolist() == ["KMeans 4"] * 3
    np.testing.assert_allclose(rows.largest_difference, 0.01, rtol=1e-4)


def test_a_planted_difference_of_one_number_is_found(small):
    with netCDF4.Dataset(small, "a") as file:
        items = [i for i, finder in enumerate(file["finder"][:]) if finder == "KMeans"]
        true = float(file["interpretability"][items[1], 0])
        file["interpretability"][items[1], 0] = true + 1
    found = reproduce(small)
    assert not found.same
    row = found.differences.iloc[0]
    assert len(found.differences) == 1
    assert row[["variable", "metric", "system", "finder", "n_different", "n_compared"]].tolist() == [
        *("interpretability", "Color", "brain", "KMeans"),
        *(1, 3),
    ]
    np.testing.assert_allclose([row.largest_difference, row.recorded, row.rerun], [1, true + 1, true], rtol=1e-6)
    assert "Nothing that is recorded has changed" in repr(found)
    assert "interpretability" in repr(found)


@pytest.mark.parametrize(("factor", "same"), [(0.5, True), (2, False)])
def test_floats_are_compared_relative_to_the_largest_of_their_set(small, factor, same):
    with netCDF4.Dataset(small, "a") as file:
        of_kmeans = np.array([finder == "KMeans" for finder in file["finder"][:]])
        values = file["interpretability"][:]
        values[np.flatnonzero(of_kmeans)[0], 0] += factor * 1e-3 * np.abs(values[of_kmeans]).max()
        file["interpretability"][:] = values
    assert reproduce(small, tolerance=1e-3).same is same


def test_attrs_are_compared_except_those_that_say_how_a_run_was_made(small):
    with netCDF4.Dataset(small, "a") as file:
        of_directions = file["directions/brain/KMeans/directions"]
        of_directions.method, of_directions.device = "PCA", "cuda"
        file["interpretability"].long_name, file["top_stimuli"].comment = "edited", "added"
        file.title, file.note, file.registry = "Edited", "Edited.", "{}"
    found = reproduce(small).differences
    assert found.variable.tolist() == [
        *("attr title", "attr note", "attr long_name of interpretability", "attr comment of top_stimuli"),
        "attr method of directions",
    ]
    assert found.iloc[0][["recorded", "rerun"]].tolist() == ["Edited", "A small study"]
    assert found.iloc[-1][["system", "finder"]].tolist() == ["brain", "KMeans"]


def test_the_text_says_what_is_compared_and_within_which_tolerance(small):
    text = " ".join(repr(reproduce(small, tolerance=1e-4)).split())
    assert "Floating-point values may differ by 0.0001 of the largest of their variable, metric, system and" in text
    assert "Not compared are the attrs provenance, registry and device." in text


def test_what_is_computed_from_the_index_is_compared_relative_to_the_largest_index(small):
    """A difference between halves has the rounding errors of the index, though it may itself be near zero."""
    with netCDF4.Dataset(small, "a") as file:
        of_kmeans = np.array([finder == "KMeans" for finder in file["finder"][:]])
        largest = float(np.abs(file["interpretability"][:][of_kmeans, 0]).max())
        values = file["difference_of_halves"][:]
        shift = float(np.abs(values[of_kmeans, 0]).max())
        values[of_kmeans, 0] = 0
        file["difference_of_halves"][:] = values
    assert reproduce(small, tolerance=1.01 * shift / largest).same
    assert not reproduce(small, tolerance=0.99 * shift / largest).same


def test_a_changed_input_is_named(small):
    responses = small.parents[1] / "brain.npy"
    np.save(responses, np.load(responses) ** 2)
    found = reproduce(small)
    assert not found.same
    assert {"interpretability", "top_stimuli", "directions"} <= set(found.differences.variable)
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("input brain.npy: SHA-256 ")
    assert found.reasons[0] in repr(found)


def test_changed_versions_code_and_machine_are_named(small):
    true = json.loads(xr.load_dataset(small).provenance)
    edit_provenance(small, versions={"numpy": "1.0", "gone": "2.0"}, code="0", platform="VAX", device="cuda")
    found = reproduce(small)
    assert found.same
    assert set(found.reasons) == {
        f"numpy 1.0 then, {np.__version__} now",
        "gone 2.0 then, none now",
        f"the code of neurosuper {true['versions']['neurosuper']} was edited",
        f"platform: VAX then, {true['platform']} now",
        f"device: cuda then, {true['device']} now",
    }
    assert "without effect" in repr(found)


def test_the_recorded_number_of_threads_is_used_and_restored(small, monkeypatch):
    seen = []
    monkeypatch.setattr("neurosuper.study.rerun.os.cpu_count", lambda: 2)
    compute = neurosuper.study.rerun.compute_results
    monkeypatch.setattr(
        "neurosuper.study.rerun.compute_results", lambda *args: seen.append(torch.get_num_threads()) or compute(*args)
    )
    before = torch.get_num_threads()
    edit_provenance(small, threads=2)
    assert reproduce(small).reasons == []
    edit_provenance(small, threads=64)
    assert reproduce(small).reasons == ["threads: 64 then, 2 now"]
    assert seen == [2, 2]
    assert torch.get_num_threads() == before


def test_the_recorded_settings_are_run_though_the_file_was_edited(small):
    edited = "study.toml was edited, but this explains no difference: the recorded settings were run"
    study = small.parents[1] / "study.toml"
    for text in (SMALL.replace("n_directions = 3", "n_directions = 2"), "not a study"):
        study.write_text(text)
        found = reproduce(small)
        assert found.same
        assert found.reasons == [edited]
    study.write_text(f"# a comment\n{SMALL}")
    assert reproduce(small).reasons == []


def test_absolute_paths_are_those_of_the_study_file(study):
    """They are not in `study.nc`, which is shared."""
    text = SMALL.replace('"images"', f"'{study.parent / 'images'}'")
    study.write_text(text)
    run_study(study)
    path = study.parent / "study_output" / "study.nc"
    assert str(study.parent).encode() not in path.read_bytes()
    assert reproduce(path).same
    study.write_text(text.replace("n_directions = 3", "n_directions = 2"))
    with pytest.raises(ValueError, match=r"absolute paths, .*study\.toml was edited; put it back"):
        reproduce(path)
    study.rename(study.parent / "other.toml")
    with pytest.raises(ValueError, match=r"absolute paths, .*study\.toml is not there"):
        reproduce(path, folder=study.parent)


def test_activations_and_embeddings_are_computed_again(study, monkeypatch):
    """A rerun that read those of the recorded run would say nothing about them."""
    study.write_text(f'cache_embeddings = "float32"\n{OF_NETWORK}')
    run_study(study)
    passed = []
    run_layers = neurosuper.networks.recording.run_layers

    def counting(model, layers, outputs, batch, **rest):
        passed.append(len(batch))
        return run_layers(model, layers, outputs, batch, **rest)

    for module in (neurosuper.networks.recording, neurosuper.metrics.features):
        monkeypatch.setattr(module, "run_layers", counting)
    run_study(study)
    n_when_stored = sum(passed)
    assert n_when_stored < 40
    passed.clear()
    assert reproduce(study.parent / "study_output" / "study.nc").same
    assert sum(passed) >= n_when_stored + 40 + 20


def test_a_rerun_neither_reads_nor_writes_the_files_that_a_study_names(study):
    study.write_text(
        f"{SMALL}[finders.SAE]\nfinder = 'SparseAutoencoder'\nn_directions = 6\nn_active = 2\nmax_iter = 3\n"
        'checkpoint = "sae.pt"\n'
    )
    run_study(study)
    checkpoint = study.parent / "sae.pt"
    assert checkpoint.is_file()
    checkpoint.write_bytes(b"damaged")
    assert reproduce(study.parent / "study_output" / "study.nc").same
    assert checkpoint.read_bytes() == b"damaged"


def test_top_stimuli_of_equal_code_may_be_exchanged(study):
    """Two photographs drive a unit equally but for rounding: either may be its third; their images differ."""
    brain = np.load(study.parent / "brain.npy")
    study.write_text(SMALL.replace("title", "top = 3\nscore_on = 'all'\nbaselines = false\ntitle"))
    order = np.argsort(-brain[0])
    brain[0, order[3]] = brain[0, order[2]] * (1 - 1e-7)
    np.save(study.parent / "brain.npy", brain)
    run_study(study)
    path = study.parent / "study_output" / "study.nc"
    exchange(path, item=0, old=f"photo{order[2]:02d}", new=f"photo{order[3]:02d}")
    found = reproduce(path)
    assert found.same
    assert found.n_ties == 1
    exchange(path, item=0, old=f"photo{order[3]:02d}", new=f"photo{order[4]:02d}")
    found = reproduce(path)
    assert found.differences.variable.tolist() == ["top_stimuli"]
    assert found.n_ties == 0


def exchange(path, item, old, new):
    with netCDF4.Dataset(path, "a") as file:
        labels = file["top_stimuli"]
        labels.set_auto_chartostring(False)  # until 1.7.4, text cannot be written to a part of an array
        before = labels[item].data  # (top, character)
        labels[item] = np.frombuffer(before.tobytes().replace(old.encode(), new.encode()), "S1").reshape(before.shape)


def test_an_item_less_is_reported_and_all_others_are_compared(small):
    whole = xr.load_dataset(small)
    with xr.open_dataset(small, group="directions/brain/KMeans") as directions:
        directions = directions.load()
    part = whole.isel(item=slice(1, None))
    small.unlink()
    part.to_netcdf(small)
    directions.to_netcdf(small, mode="a", group="directions/brain/KMeans")
    found = reproduce(small).differences
    assert found.variable.tolist() == ["groups of directions", "labels of item"]
    assert "Units" not in found[found.variable == "groups of directions"].to_string()
    assert found.n_different.tolist()[1] == 1
    assert whole.direction.values[0] in str(found.rerun.iloc[1])


def test_the_folder_of_the_inputs_is_given_or_found(small, tmp_path_factory):
    far = tmp_path_factory.mktemp("far") / "study.nc"
    shutil.copy(small, far)
    with pytest.raises(FileNotFoundError, match=r"no study.toml in .* pass folder="):
        reproduce(far)
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; pass the folder that paths"):
        reproduce(far, folder="nowhere")
    assert reproduce(far, folder=small.parents[1]).same
    (small.parents[1] / "brain.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"brain\.npy"):
        reproduce(small)


def test_code_from_elsewhere_needs_trust(study, tmp_path_factory):
    module = tmp_path_factory.mktemp("elsewhere") / "network.py"
    shutil.move(study.parent / "network.py", module)
    study.write_text(OF_NETWORK.replace("network.py:build", f"{module}:build"))
    run_study(study, trust=True)
    path = study.parent / "study_output" / "study.nc"
    with pytest.raises(ValueError, match="asks to run"):
        reproduce(path)
    assert reproduce(path, trust=True).same


def drop_study(path):
    with netCDF4.Dataset(path, "a") as file:
        provenance = json.loads(file.provenance)
        del provenance["settings"]
        file.provenance = json.dumps(provenance)


def set_attr(**attrs):
    def edit(path):
        with netCDF4.Dataset(path, "a") as file:
            file.setncatts(attrs)

    return edit


def drop_provenance(path):
    with netCDF4.Dataset(path, "a") as file:
        file.delncattr("provenance")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop_study, "does not contain the settings of its study"),
        (set_attr(format_version=0), "has format_version 0, and this neurosuper writes version"),
        (drop_provenance, "is not a study.nc: it lacks the attrs"),
        (lambda path: edit_provenance(path, study="../study.toml"), "not the name of a file"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "netCDF"),
    ],
    ids=["no settings", "another layout", "no provenance", "a path for a name", "cut"],
)
def test_a_file_that_cannot_be_run_again_is_refused(small, edit, message):
    edit(small)
    with pytest.raises(ValueError, match=message):
        reproduce(small)


def test_a_negative_tolerance_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        reproduce(tmp_path / "study.nc", tolerance=-1)


V4 = """
title = "Macaque V4"
images.path = "$NEUROSUPER_TEST_DATA/v4/images_201025.zip"
finders.Units = {}
finders.PCA = { n_directions = 20 }
finders.ICA = { n_directions = 20 }
finders.KMeans = { n_directions = 60 }
metrics.Color = {}
[systems.V4]
loader = "load_array"
path = "$NEUROSUPER_TEST_DATA/v4/responses_avg_201025.npy"
dims = ["unit", "stimulus"]
stimuli = true
measured_in = "spike count"
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_study_of_a_real_recording_reproduces_itself(tmp_path, real_data, monkeypatch, n_threads):
    """With the recorded number of threads to the last bit; with another to the default tolerance, except ICA."""
    monkeypatch.setenv("NEUROSUPER_TEST_DATA", str(real_data))
    monkeypatch.setattr("neurosuper.study.rerun.os.cpu_count", lambda: 2)
    (tmp_path / "study.toml").write_text(V4)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_study(tmp_path / "study.toml")
    finally:
        torch.set_num_threads(before)
    path = tmp_path / "study_output" / "study.nc"
    assert json.loads(xr.load_dataset(path).provenance)["threads"] == 1
    edit_provenance(path, threads=n_threads)
    found = reproduce(path, **({"tolerance": 0} if n_threads == 1 else {}))
    assert set(found.differences.finder) == (set() if n_threads == 1 else {"ICA"})
