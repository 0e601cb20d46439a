"""A new study file names what is in the data, explains every setting, and can be run as it is."""

import datetime
import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr
from PIL import Image
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.image import GrayscaleImage, IndexSeries

from neurosuper import load_array, run_study
from neurosuper.study import new_study, read_study

N_IMAGES = 24


@pytest.fixture
def photos(tmp_path, rng):
    """A folder of 24 photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(N_IMAGES):
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(folder / f"photo{i:02d}.png")
    return folder


@pytest.fixture
def recording(tmp_path, rng):
    """Write an NWB file with two presentations of each image, named by a column, or by an index of images in it."""

    def write(*, images_inside=False, stem="photo", suffix=""):
        nwb = NWBFile("planted", "session", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        order = np.tile(np.arange(N_IMAGES), 2)
        onsets = np.arange(len(order), dtype=float)
        if images_inside:
            pixels = rng.integers(0, 256, (N_IMAGES, 6, 7), np.uint8)
            images = [GrayscaleImage(name=f"scene{i}", data=pixels[i]) for i in range(N_IMAGES)]
            listed = ImageReferences(name="order_of_images", data=images)
            scenes = Images(name="scenes", images=images, order_of_images=listed, description="shown")
            nwb.add_stimulus_template(scenes)
            shown = IndexSeries(
                name="shown", data=order.astype(np.uint32), unit="N/A", indexed_images=scenes, timestamps=onsets
            )
            nwb.add_stimulus(shown)
        else:
            nwb.add_trial_column("picture", "file")
            for onset, i in zip(onsets, order, strict=True):
                nwb.add_trial(start_time=onset, stop_time=onset + 0.3, picture=f"{stem}{i:02d}{suffix}")
        nwb.add_unit_column("area", "area")
        for area in ("V4", "IT", "IT"):
            nwb.add_unit(spike_times=np.sort(rng.uniform(0, len(order), 900)), area=area)
        with NWBHDF5IO(tmp_path / "session.nwb", "w") as file:
            file.write(nwb)
        return tmp_path / "session.nwb"

    return write


def settings_of(path):
    study = read_study(path)
    ((name, table),) = study.systems.items()
    return study, name, table


def test_a_recording_gives_its_table_column_window_and_area(recording, photos, tmp_path):
    path = new_study(recording(), tmp_path / "study.toml", images=photos)
    study, name, table = settings_of(path)
    assert study.images == {"path": "photos"}
    assert name == "session"
    assert table == {
        "loader": "load_nwb",
        "path": "session.nwb",
        "presentations": "trials",
        "stimulus_column": "picture",
        "window": [0.05, 0.35],
        "area_column": "area",
    }
    result = run_study(path)
    assert dict(result.groupby("finder").count().interpretability.sel(metric="Color").to_series()) == {
        "CovarianceMatched (center, normalize)": 3,
        "CovarianceMatched (normalize)": 3,
        "KMeans": 3,
        "KMeans centred": 3,
        "Units": 3,
    }


def test_a_recording_that_names_files_is_joined_to_its_images(recording, photos, tmp_path, caplog):
    path = new_study(recording(stem="set/photo", suffix=".JPG"), tmp_path / "study.toml", images=photos)
    assert settings_of(path)[2]["stimulus_column"] == "picture"
    with caplog.at_level("INFO", "neurosuper"):
        result = run_study(path)
    said = "session: its stimuli are named 'set/photo00.JPG', … (24 in all), taken for images such as 'photo00'"
    assert said in caplog.text
    assert set(result.top_stimuli.values.ravel()) <= {f"photo{i:02d}" for i in range(N_IMAGES)}


def test_a_recording_with_images_needs_nothing_else(recording, tmp_path):
    path = new_study(recording(images_inside=True), tmp_path / "study.toml")
    study, _, table = settings_of(path)
    assert study.images == {"path": "session.nwb", "template": "scenes"}
    assert table["index_series"] == "shown"
    assert table["presentations"] is False
    assert run_study(path).sizes["item"] == 15


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((4, N_IMAGES), ["unit", "stimulus"]),
        ((N_IMAGES, 4), ["stimulus", "unit"]),
        ((40, 3, N_IMAGES), ["unit", "repetition", "stimulus"]),
    ],
)
def test_the_axes_of_a_matrix_are_those_that_fit_the_images(shape, dims, photos, tmp_path, rng):
    np.save(tmp_path / "v4.npy", rng.gamma(1, 5, shape))
    _, name, table = settings_of(new_study(tmp_path / "v4.npy", tmp_path / "study.toml", images=photos))
    assert name == "v4"
    assert table["dims"] == dims
    assert table["stimuli"] == "photos"


def test_a_matrix_is_run_as_it_is(photos, tmp_path, rng):
    np.savez(tmp_path / "two.npz", times=np.arange(5.0), rates=rng.gamma(1, 5, (N_IMAGES, 4)))
    path = new_study(tmp_path / "two.npz", tmp_path / "study.toml", images=photos)
    assert read_study(path).systems["two"]["variable"] == "rates"
    assert set(run_study(path).system.values) == {"two"}


@pytest.mark.parametrize("suffix", [".mat", ".h5"])
def test_a_matrix_in_a_file_of_matlab_or_hdf5_is_found(suffix, photos, tmp_path, rng):
    rates, path = rng.gamma(1, 5, (N_IMAGES, 4)), tmp_path / f"session{suffix}"
    if suffix == ".mat":
        scipy.io.savemat(path, {"times": np.arange(5.0), "rates": rates})
    else:
        with h5py.File(path, "w") as file:
            file["session/times"], file["session/rates"] = np.arange(5.0), rates
    _, _, table = settings_of(new_study(path, tmp_path / "study.toml", images=photos))
    assert table["variable"] == ("rates" if suffix == ".mat" else "session/rates")
    assert table["dims"] == ["stimulus", "unit"]
    settings = {key: table[key] for key in ("dims", "stimuli", "variable")}
    settings["stimuli"] = photos
    np.testing.assert_allclose(load_array(path, **settings).values, rates)


@pytest.mark.parametrize(("key", "n_rows"), [("stimuli", N_IMAGES), ("trials", 2 * N_IMAGES)])
def test_the_column_of_a_table_that_names_the_images_is_found(key, n_rows, photos, tmp_path, rng):
    columns = {"image": [f"photo{i % N_IMAGES:02d}.png" for i in range(n_rows)], "u1": rng.random(n_rows)}
    pd.DataFrame(columns | {"u2": rng.random(n_rows)}).to_csv(tmp_path / "v4.csv", index=False)
    _, _, table = settings_of(new_study(tmp_path / "v4.csv", tmp_path / "study.toml", images=photos))
    assert table[key] == "image"
    assert "dims" not in table
    assert load_array(tmp_path / "v4.csv", **{key: "image"}).sizes["unit"] == 2


def test_labels_in_a_file_are_kept(photos, tmp_path, rng):
    labels = [f"photo{i:02d}" for i in range(N_IMAGES)]
    rates = xr.DataArray(rng.gamma(1, 5, (N_IMAGES, 4)), {"stimulus": labels}, ("stimulus", "unit"), name="rate")
    rates.to_netcdf(tmp_path / "v4.nc")
    _, _, table = settings_of(new_study(tmp_path / "v4.nc", tmp_path / "study.toml", images=photos))
    assert "dims" not in table
    assert "stimuli" not in table


def test_a_folder_of_images_gives_a_network(photos, tmp_path):
    path = new_study(photos, tmp_path / "study.toml")
    _, name, table = settings_of(path)
    assert (name, table["loader"]) == ("network", "activations")
    assert set(run_study(path).system.values) == {"network layer3", "network layer4"}


def test_images_of_several_sizes_are_resized(photos, tmp_path):
    Image.new("RGB", (5, 5)).save(photos / "small.png")
    assert read_study(new_study(photos, tmp_path / "study.toml")).images == {"path": "photos", "size": 128}


def test_grey_images_are_noted_where_color_is_chosen(photos, tmp_path):
    note = "# The images are grey, so Color compares their brightness"
    assert note not in new_study(photos, tmp_path / "colored.toml").read_text()
    grey = tmp_path / "grey"
    grey.mkdir()
    for path in photos.iterdir():
        Image.open(path).convert("L").save(grey / path.name)
    text = new_study(grey, tmp_path / "grey.toml").read_text()
    assert text.index(note) < text.index("[metrics.Color]")
    shutil.copy(photos / "photo07.png", grey)
    assert note not in new_study(grey, tmp_path / "one_in_color.toml").read_text()


def test_every_setting_is_explained_and_data_elsewhere_are_named_in_full(photos, tmp_path, rng):
    np.save(tmp_path / "v4.npy", rng.gamma(1, 5, (4, N_IMAGES)))
    (tmp_path / "studies").mkdir()
    text = new_study(tmp_path / "v4.npy", tmp_path / "studies" / "a.toml", images=photos).read_text()
    lines = [line for line in text.splitlines() if re.match(r"\w+ = ", line)]
    unexplained = {line.split(" = ")[0] for line in lines if "#" not in line}
    assert unexplained <= {"loader", "path", "finder"}
    assert read_study(tmp_path / "studies" / "a.toml").images["path"] == photos.resolve().as_posix()


def test_measures_of_superposition_are_explained_and_may_be_uncommented(photos, tmp_path):
    path = new_study(photos, tmp_path / "study.toml")
    text = path.read_text()
    start, end = text.index("# [superposition]"), text.index("# Systems against systems")
    path.write_text(text[:start] + re.sub("^# ", "", text[start:end], flags=re.MULTILINE) + text[end:])
    study = read_study(path)
    assert study.superposition.metric == "Color"
    assert study.superposition.max_units == 256
    assert study.factors.kinds == {"pose": "label"}


def test_comparisons_of_systems_are_explained_and_may_be_uncommented(photos, tmp_path):
    path = new_study(photos, tmp_path / "study.toml")
    text = path.read_text()
    start, end = text.index("# [populations]"), text.index("# A difference that")
    path.write_text(text[:start] + re.sub("^# ", "", text[start:end], flags=re.MULTILINE) + text[end:])
    study = read_study(path)
    assert (study.populations.measures, study.populations.finders) == (["cka", "rsa", "twins"], ["KMeans"])
    assert (study.twins.match, study.twins.remove) == ("best", "common")


def test_a_file_is_never_overwritten(photos, tmp_path):
    new_study(photos, tmp_path / "study.toml")
    with pytest.raises(FileExistsError, match=r"study\.toml exists already; name another"):
        new_study(photos, tmp_path / "study.toml")


def test_errors_say_what_is_missing(recording, photos, tmp_path, rng):
    output = tmp_path / "study.toml"
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        new_study(tmp_path / "nowhere", output)
    with pytest.raises(FileNotFoundError, match="session.nwb contains no images; give images="):
        new_study(recording(), output)
    with pytest.raises(
        ValueError, match=r"no stimulus of session.nwb is named as an image: they are 'other00', .*24 in all"
    ):
        new_study(recording(stem="other"), output, images=photos)
    np.save(tmp_path / "v4.npy", rng.gamma(1, 5, (4, 7)))
    with pytest.raises(FileNotFoundError, match="v4.npy contains no images"):
        new_study(tmp_path / "v4.npy", output)
    with pytest.raises(ValueError, match=r"no axis of v4.npy \(v4 \(4, 7\)\) has the length 24"):
        new_study(tmp_path / "v4.npy", output, images=photos)
    assert not output.exists()
