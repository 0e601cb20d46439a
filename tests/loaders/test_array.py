"""A matrix must come back the same from every format and in every order of its axes."""

import itertools
import os
import sys

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from PIL import Image

from neurosuper import average_repetitions, load_array, load_images
from neurosuper._labels import as_label
from neurosuper.loaders import array as array_module

STIMULI = ["cat", "dog", "owl"]
MATRIX = np.arange(6, dtype=np.int16).reshape(2, 3)  # (unit, stimulus)


@pytest.fixture
def labelled():
    return xr.DataArray(
        MATRIX,
        dims=("unit", "stimulus"),
        coords={"unit": ["u1", "u2"], "stimulus": STIMULI, "area": ("unit", ["V1", "V4"])},
        name="counts",
        attrs={"units": "spike count", "modality": "spikes"},
    )


def save_npy(path):
    np.save(path, MATRIX)


def save_npz(path):
    np.savez_compressed(path, counts=MATRIX)


def save_netcdf(path):
    xr.DataArray(MATRIX, dims=("neuron", "image"), name="counts").to_netcdf(path)


def save_zarr_group(path):
    xr.DataArray(MATRIX, dims=("neuron", "image"), name="counts").to_zarr(path, zarr_format=2)


def save_zarr_array(path):
    zarr.save(path, MATRIX)


@pytest.mark.parametrize("lazy", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(
    ("save", "name"),
    [
        (save_npy, "r.npy"),
        (save_npz, "r.npz"),
        (save_netcdf, "r.nc"),
        (save_zarr_group, "r.zarr"),
        (save_zarr_array, "r.zarr"),
    ],
)
def test_every_format_gives_the_same_responses(save, name, lazy, tmp_path, monkeypatch):
    if lazy:
        monkeypatch.setattr(array_module, "LAZY_BYTES", 0)
    save(tmp_path / name)
    responses = load_array(tmp_path / name, ("unit", "stimulus"), stimuli=STIMULI, measured_in="spike count")
    assert (responses.chunks is not None) == lazy
    assert responses.dims == ("stimulus", "unit")
    assert responses.dtype == MATRIX.dtype
    assert responses.attrs == {"units": "spike count", "source": name}
    np.testing.assert_array_equal(responses.sel(stimulus=STIMULI, unit=["0", "1"]), MATRIX.T)


def test_large_npy_is_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(array_module, "LAZY_BYTES", 0)
    values = np.random.default_rng(0).normal(size=(4, 50))
    np.save(tmp_path / "r.npy", values)
    with dask.config.set({"array.chunk-size": "320B"}):
        responses = load_array(tmp_path / "r.npy", ("unit", "stimulus"), stimuli=[f"s{i:02d}" for i in range(50)])
    assert responses.chunks == ((10,) * 5, (4,))
    np.testing.assert_array_equal(responses.isel(stimulus=slice(7, 23)), values.T[7:23])


@pytest.mark.parametrize("order", list(itertools.permutations(("stimulus", "repetition", "unit"))))
def test_any_order_of_axes_gives_the_same_array(order, tmp_path):
    values = xr.DataArray(np.arange(24.0).reshape(3, 4, 2), dims=("stimulus", "repetition", "unit"))
    values[0, 2:] = np.nan
    np.save(tmp_path / "r.npy", values.transpose(*order))
    responses = load_array(tmp_path / "r.npy", order, stimuli=STIMULI)
    assert responses.dims == values.dims
    np.testing.assert_array_equal(responses, values)
    assert average_repetitions(responses).n_repetitions.values.tolist() == [2, 4, 4]


@pytest.mark.parametrize(("write", "name"), [("to_netcdf", "r.nc"), ("to_zarr", "r.zarr")])
def test_labels_coords_and_units_of_a_file_are_kept(labelled, write, name, tmp_path):
    getattr(labelled, write)(tmp_path / name, **({"zarr_format": 2} if write == "to_zarr" else {}))
    responses = load_array(tmp_path / name)
    expected = labelled.T.rename("response").assign_attrs(source=name)
    xr.testing.assert_identical(responses, expected)
    assert load_array(tmp_path / name, stimuli=["x", "y", "z"]).stimulus.values.tolist() == ["x", "y", "z"]
    assert load_array(tmp_path / name, measured_in="a.u.").attrs["units"] == "a.u."


def test_axes_of_other_names_are_renamed_with_their_labels(labelled, tmp_path):
    labelled.rename(unit="neuron", stimulus="image").to_netcdf(tmp_path / "r.nc")
    responses = load_array(tmp_path / "r.nc", ("unit", "stimulus"))
    assert (responses.stimulus.values.tolist(), responses.unit.values.tolist()) == (STIMULI, ["u1", "u2"])


def test_numbers_that_name_stimuli_become_text(labelled, tmp_path):
    labelled.assign_coords(stimulus=[10.0, 2.0, 2.5], unit=[7, 8]).to_netcdf(tmp_path / "r.nc")
    responses = load_array(tmp_path / "r.nc")
    assert responses.stimulus.values.tolist() == ["10", "2", "2.5"]
    assert responses.unit.values.tolist() == ["7", "8"]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (12.0, "12"),
        (np.float32(12.1), "12.1"),
        (-1, "-1"),
        (b"owl", "owl"),
        (b"owl\0 ", "owl"),
        ("012", "012"),
        (True, "True"),
    ],
)
def test_values_of_a_file_as_labels(value, label):
    assert as_label(value) == label


def test_units_are_named_by_position_or_by_coords(tmp_path):
    np.save(tmp_path / "r.npy", np.ones((2, 11)))
    by_position = load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=["a", "b"])
    assert by_position.unit.values.tolist()[::5] == ["00", "05", "10"]
    coords = {"area": ["V1"] * 5 + ["V4"] * 6}
    by_name = load_array(
        tmp_path / "r.npy", ("stimulus", "unit"), stimuli=["a", "b"], units=range(100, 111), unit_coords=coords
    )
    assert by_name.unit.values.tolist()[:2] == ["100", "101"]
    assert by_name.area.values.tolist() == coords["area"]


def test_stimuli_are_labels_a_labelled_array_or_the_images(labelled, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in reversed(STIMULI):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    np.save(tmp_path / "r.npy", MATRIX)
    for stimuli in (STIMULI, np.array(STIMULI), labelled, load_images(folder), folder, str(folder)):
        responses = load_array(tmp_path / "r.npy", ("unit", "stimulus"), stimuli=stimuli)
        assert responses.stimulus.values.tolist() == STIMULI


def test_one_of_several_arrays_is_chosen_by_name(tmp_path):
    np.savez(tmp_path / "r.npz", rates=MATRIX, other=np.zeros(3))
    responses = load_array(tmp_path / "r.npz", ("unit", "stimulus"), stimuli=STIMULI, variable="rates")
    np.testing.assert_array_equal(responses, MATRIX.T)
    for variable, problem in ((None, "no variable was named"), ("rate", "there is no 'rate'")):
        with pytest.raises(
            ValueError, match=f"r.npz contains the arrays 'rates', 'other' and {problem}; pass variable="
        ):
            load_array(tmp_path / "r.npz", ("unit", "stimulus"), stimuli=STIMULI, variable=variable)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stimuli": None}, "r.npy has no stimulus labels; pass stimuli= "),
        ({"stimuli": ["cat", "dog"]}, r"has length 3 along 'stimulus', but 2 labels were given"),
        ({"stimuli": ["cat", "cat", "owl"]}, "duplicate stimulus labels 'cat'"),
        ({"stimuli": xr.DataArray([0, 1, 2], dims="stimulus")}, "stimuli need labels on 'stimulus'"),
        ({"unit_coords": {"area": ["V1"]}}, r"has length 2 along 'unit', but 1 labels were given"),
        ({"dims": None, "stimuli": ["cat"]}, r"r.npy has shape \(2, 3\), and 1 labels of stimulus .* no order of axes"),
        ({"dims": ("unit", "image")}, r"dims must name each axis .* got \('unit', 'image'\)"),
        ({"dims": ("unit",)}, r"dims must name each axis .* got \('unit',\)"),
        ({"dims": ("unit", "stimulus", "stimulus")}, "dims must name each axis"),
        ({"dims": ("unit", "repetition", "stimulus")}, "dims must name each axis"),
        ({"variable": "rates"}, "r.npy contains the arrays 'r' and there is no 'rates'"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(wrong, message, tmp_path):
    np.save(tmp_path / "r.npy", MATRIX)
    with pytest.raises(ValueError, match=message) as raised:
        load_array(tmp_path / "r.npy", **{"dims": ("unit", "stimulus"), "stimuli": STIMULI} | wrong)
    assert "\n" not in str(raised.value)


def test_missing_values_without_repetitions_are_refused(tmp_path):
    np.save(tmp_path / "r.npy", np.where(MATRIX == 4, np.nan, MATRIX))
    with pytest.raises(ValueError, match="1 NaN or infinite values, in unit '1'"):
        load_array(tmp_path / "r.npy", ("unit", "stimulus"), stimuli=STIMULI)


def test_missing_file_and_other_formats(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no array at .*r\.npy"):
        load_array(tmp_path / "r.npy", ("unit", "stimulus"))
    (tmp_path / "r.xlsx").touch()
    with pytest.raises(ValueError, match=r"cannot read r\.xlsx: .* \.npy, \.npz, \.nc, \.zarr.*as_responses"):
        load_array(tmp_path / "r.xlsx", ("unit", "stimulus"))


@pytest.mark.parametrize("name", ["r.npy", "r.npz", "r.nc"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_broken_files_are_refused_in_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    message = f"{name} cannot be read as netCDF: " if name == "r.nc" else f"cannot read .*{name}: "
    with pytest.raises(ValueError, match=f"{message}.*fetch it again") as raised:
        load_array(tmp_path / name, ("unit", "stimulus"), stimuli=STIMULI)
    assert "\n" not in str(raised.value)


def test_a_file_cut_short_and_an_empty_store_are_refused(tmp_path):
    np.save(tmp_path / "r.npy", MATRIX)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "r.npy").read_bytes()[:-2])
    (tmp_path / "r.zarr").mkdir()
    for name in ("cut.npy", "r.zarr"):
        with pytest.raises(ValueError, match=f"cannot read .*{name}"):
            load_array(tmp_path / name, ("unit", "stimulus"), stimuli=STIMULI)


@pytest.mark.parametrize("shape", ["(-4, 6)", "(99999999999999999999, 6)", "(4, 6"])
def test_a_header_that_numpy_fails_on_is_refused_in_one_line(shape, tmp_path):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    (tmp_path / "r.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(192))
    with pytest.raises(ValueError, match=r"cannot read .*r\.npy: .*fetch it again") as raised:
        load_array(tmp_path / "r.npy", ("unit", "stimulus"), stimuli=STIMULI)
    assert "\n" not in str(raised.value)


def test_an_hdf5_file_that_netcdf_fails_on_is_refused_in_one_line(tmp_path):
    with h5py.File(tmp_path / "r.nc", "w") as file:  # one axis has a scale, the other none
        file["rates"], file["stimulus"] = MATRIX, np.arange(len(MATRIX))
        file["stimulus"].make_scale("stimulus")
        file["rates"].dims[0].attach_scale(file["stimulus"])
    with pytest.raises(ValueError, match=r"cannot read .*r\.nc: .*save it as plain numbers"):
        load_array(tmp_path / "r.nc", ("unit", "stimulus"), variable="rates", stimuli=STIMULI)


def test_an_array_of_a_zip_file_that_exceeds_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "r.npz", rates=np.zeros((1000, 1000)))
    monkeypatch.setattr(array_module, "memory_of_machine", lambda: 7e6)
    with pytest.raises(ValueError, match=r"cannot read .*r\.npz: it does not fit into memory"):
        load_array(tmp_path / "r.npz", ("unit", "stimulus"), stimuli=[str(i) for i in range(1000)])


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_pickles_are_never_loaded(save, tmp_path):
    path = tmp_path / ("r.npy" if save is np.save else "r.npz")
    save(path, np.array([[1, "code"]], dtype=object))
    with pytest.raises(ValueError, match=r"cannot read .*[Oo]bject.* save it as plain numbers"):
        load_array(path, ("unit", "stimulus"), stimuli=STIMULI)


def test_zarr_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    (tmp_path / "r.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install 'neurosuper\[zarr\]'"):
        load_array(tmp_path / "r.zarr")


def test_real_v4_repeats_average_to_the_published_averages(real_data):
    folder = real_data / "v4"
    repeats = load_array(
        folder / "responses_raw_210325.npy",
        ("unit", "stimulus", "repetition"),
        stimuli=folder / "images_210325.zip",
        measured_in="spike count",
    )
    averages = load_array(
        folder / "responses_avg_210325.npy", ("unit", "stimulus"), stimuli=load_images(folder / "images_210325.zip")
    )
    assert averages.dtype == np.float64
    assert averages.shape == (640, 50)
    averaged = average_repetitions(repeats)
    assert (averaged.n_repetitions.min(), averaged.n_repetitions.max()) == (6, 10)
    xr.testing.assert_equal(averaged.drop_vars("n_repetitions"), averages.drop_vars("content"))


def test_dims_may_not_contradict_the_file(tmp_path, responses):
    responses.to_netcdf(tmp_path / "r.nc")
    with pytest.raises(ValueError, match=r"itself names its axes .*leave dims out"):
        load_array(tmp_path / "r.nc", dims=("unit", "stimulus"))


def test_dates_of_units_survive(tmp_path, responses):
    days = np.array(["2024-01-01", "NaT"] * 4, dtype="datetime64[ns]")
    responses.assign_coords(day=("unit", days)).to_netcdf(tmp_path / "r.nc")
    np.testing.assert_array_equal(load_array(tmp_path / "r.nc").day.values, days)


def test_images_numbered_without_padding_give_a_warning(tmp_path, rng):
    (tmp_path / "images").mkdir()
    for i in range(1, 12):
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / "images" / f"{i}.png")
    np.save(tmp_path / "r.npy", rng.random((11, 2)))
    message = r"sorted as text: 1, 10, 11, …; if responses are in order of number \(1, 2, 3, …\), pass stimuli= a list"
    for stimuli in (tmp_path / "images", load_images(tmp_path / "images")):
        with pytest.warns(UserWarning, match=message):
            load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=stimuli)


@pytest.mark.parametrize(
    "labels",
    [
        ["img_2", "img_10", "img_1"],  # a chosen order
        ["img_01", "img_02", "img_10"],
        ["cat_1", "dog_10", "owl_2"],
        ["a1f0", "b2", "c10e3"],
    ],
)
def test_labels_whose_order_is_clear_raise_no_warning(labels, tmp_path):
    np.save(tmp_path / "r.npy", np.arange(6.0).reshape(3, 2))
    stimuli = xr.DataArray(np.zeros(3), dims="stimulus", coords={"stimulus": labels})
    for given in (labels, np.array(labels), stimuli):
        assert load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=given).stimulus.values.tolist() == labels


@pytest.mark.parametrize("labels", [["img1", "img10", "img2"], ["cat_1", "dog_10_a", "dog_9_a"], ["10", "9"]])
def test_labels_that_text_and_number_sort_differently_give_a_warning(labels, tmp_path):
    np.save(tmp_path / "r.npy", np.arange(2.0 * len(labels)).reshape(-1, 2))
    stimuli = xr.DataArray(np.zeros(len(labels)), dims="stimulus", coords={"stimulus": labels})
    with pytest.warns(UserWarning, match="sorted as text"):
        load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=stimuli)
    load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=labels)  # a list is taken as it is


def test_responses_keep_the_order_of_the_list_of_images_and_know_their_content(tmp_path, rng):
    names = ["walrus", "ant", "moth"]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / f"{name}.png")
    np.save(tmp_path / "r.npy", np.array([[7.0], [8.0], [9.0]]))
    images = load_images([tmp_path / f"{name}.png" for name in names])
    responses = load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=images)
    assert [responses.sel(stimulus=name).item() for name in names] == [7, 8, 9]
    assert responses.content.values.tolist() == images.content.values.tolist()


def test_labels_of_a_file_are_unpadded_and_in_one_unicode_form(labelled, tmp_path):
    padded = labelled.assign_coords(stimulus=["cafe\u0301  ", " dog", "owl\t"], unit=["u1 ", "u2"])
    padded.to_netcdf(tmp_path / "r.nc")
    responses = load_array(tmp_path / "r.nc")
    assert responses.stimulus.values.tolist() == ["caf\u00e9", "dog", "owl"]
    assert responses.unit.values.tolist() == ["u1", "u2"]


@pytest.mark.parametrize("name", ["r.npy", "r.npz", "r.nc", "r.zarr"])
def test_a_pipe_is_no_array(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no array at"):
        load_array(tmp_path / name, ("unit", "stimulus"), stimuli=STIMULI)


def test_an_empty_array_is_refused_for_every_declared_shape(tmp_path):
    np.save(tmp_path / "r.npy", np.empty((0, 10**12), np.uint8))
    with pytest.raises(ValueError, match="contains an empty array"):
        load_array(tmp_path / "r.npy", ("stimulus", "unit"), stimuli=[])


def test_an_array_that_does_not_fit_into_memory_is_refused_in_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("Unable to allocate 1 TiB")

    np.savez(tmp_path / "r.npz", x=np.ones((2, 3)))
    monkeypatch.setattr("numpy.lib.format.read_array", fail)
    monkeypatch.setattr("numpy.lib._npyio_impl.format.read_array", fail, raising=False)
    with pytest.raises(ValueError, match="does not fit into memory; save it as .npy"):
        load_array(tmp_path / "r.npz", ("unit", "stimulus"), stimuli=STIMULI)
