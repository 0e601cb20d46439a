"""Planted responses are recovered from assemblies in all layouts that brainio has written."""

import itertools
import tracemalloc

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosuper import average_repetitions
from neurosuper.loaders import load_neuroid
from neurosuper.loaders import neuroid as module
from neurosuper.superposition import disentanglement
from tests.loaders.faithful_neuroid import DIMS, factors, neuroids, write_assembly, write_stimulus_set

STIMULI = [f"{i:02d}f86d6d{i}" for i in range(12)]
CATEGORIES = ["Cars", "Faces", "Fruits"] * 4
REPEATS = [3, 2, 4] * 4
N_V4, N_IT = 5, 3
PLANTED = np.random.default_rng(0).normal(size=(12, N_IT + N_V4))  # (stimulus, unit)
ORDER = np.random.default_rng(1).permutation(np.repeat(np.arange(12), REPEATS))
REPETITION = [int((ORDER[:i] == ORDER[i]).sum()) for i in range(len(ORDER))]
PRESENTATION = {
    "stimulus_id": [STIMULI[i] for i in ORDER],
    "repetition": REPETITION,
    "stimulus": ORDER.tolist(),
    "category_name": [CATEGORIES[i] for i in ORDER],
    "object_name": [f"object {i // 2}" for i in ORDER],
    "size": [256.0] * len(ORDER),
}
NEUROID = neuroids(N_V4, N_IT)
VALUES = PLANTED[ORDER].T[:, :, np.newaxis].astype(np.float32)  # (neuroid, presentation, time_bin)


@pytest.fixture
def assembly(tmp_path):
    return write_assembly(tmp_path / "assy.nc", VALUES, PRESENTATION, NEUROID)


def recovered(path, planted=PLANTED, **options):
    """Return the correlation of recovered with planted responses."""
    found = average_repetitions(load_neuroid(path, **options)).sel(stimulus=STIMULI)
    return np.corrcoef(found.values.ravel(), planted.ravel())[0, 1]


def test_planted_responses_are_recovered_with_all_coords(assembly):
    responses = load_neuroid(assembly)
    assert recovered(assembly) > 0.999
    assert responses.dims == ("stimulus", "repetition", "unit")
    assert responses.dtype == np.float32
    assert responses.shape == (12, 4, N_V4 + N_IT)
    assert responses.unit.values.tolist() == NEUROID["neuroid_id"]
    assert responses.area.values.tolist() == NEUROID["region"]
    assert responses.subject.values.tolist() == NEUROID["animal"]
    assert {"arr", "col", "hemisphere", "x"} <= set(responses.coords)
    assert not {"animal", "region", "neuroid_id"} & set(responses.coords)
    assert responses.sel(stimulus=STIMULI).category.values.tolist() == CATEGORIES
    assert responses.sel(stimulus=STIMULI).object_name.values.tolist() == [f"object {i // 2}" for i in range(12)]
    assert responses.attrs == {
        "units": "a.u.",
        "source": "assy.nc",
        "window": [0.07, 0.17],
        "dataset": "dicarlo.MajajHong2015.public",
    }


def test_fewer_repetitions_are_nan_and_no_multiindex_is_left(assembly, tmp_path):
    responses = load_neuroid(assembly)
    present = responses.notnull().all("unit").sum("repetition").sel(stimulus=STIMULI)
    assert present.values.tolist() == REPEATS
    assert all(index.nlevels == 1 for index in responses.indexes.values())
    responses.to_netcdf(tmp_path / "again.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "again.nc"), responses)


@pytest.mark.parametrize("dims", list(itertools.permutations(DIMS)))
@pytest.mark.parametrize("squeeze", [False, True], ids=["binned", "squeezed"])
def test_any_order_of_dims_and_any_name_give_the_same(assembly, tmp_path, dims, squeeze):
    name = "__xarray_dataarray_variable__"
    other = write_assembly(tmp_path / "b.nc", VALUES, PRESENTATION, NEUROID, dims=dims, name=name, squeeze=squeeze)
    expected = load_neuroid(assembly)
    xr.testing.assert_identical(load_neuroid(other), expected.assign_attrs(source="b.nc"))


def test_older_names_bytes_and_labelled_dims(tmp_path):
    """Older assemblies use image_id; some contain fixed-width bytes, and numbers along the dims."""
    path = tmp_path / "old.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in (("presentation", len(ORDER)), ("neuroid", N_V4 + N_IT), ("width", 16)):
            file.createDimension(dim, size)
        for dim in ("presentation", "neuroid"):
            file.createVariable(dim, "i8", (dim,))[:] = np.arange(file.dimensions[dim].size)
        file.createVariable("image_id", "S1", ("presentation", "width"))[:] = netCDF4.stringtochar(
            np.array(PRESENTATION["stimulus_id"], "S16")
        )
        file.createVariable("neuroid_id", "i8", ("neuroid",))[:] = np.arange(N_V4 + N_IT)
        file.createVariable("rates", "f8", ("presentation", "neuroid"))[:] = VALUES[..., 0].T
    assert recovered(path, area_column=None, measured_in="spikes/s") > 0.999
    responses = load_neuroid(path, area_column=None, measured_in="spikes/s")
    assert responses.unit.values.tolist() == list("01234567")
    assert set(responses.coords) == {"stimulus", "unit"}
    assert responses.attrs == {"units": "spikes/s", "source": "old.nc"}


def test_repetitions_follow_their_number_else_their_order(tmp_path):
    rows = {"stimulus_id": ["a", "b", "a", "a", "b"], "repetition": [2, 1, 0, 1, 0]}
    values = np.arange(5.0).reshape(1, 5, 1)
    one = {name: column[:1] for name, column in NEUROID.items()}
    numbered = load_neuroid(write_assembly(tmp_path / "numbered.nc", values, rows, one))
    np.testing.assert_array_equal(numbered[..., 0], [[2, 3, 0], [4, 1, np.nan]])
    path = write_assembly(tmp_path / "in_order.nc", values, {"stimulus_id": rows["stimulus_id"]}, one)
    np.testing.assert_array_equal(load_neuroid(path)[..., 0], [[0, 2, 3], [1, 4, np.nan]])


BINS = [(start, start + 20) for start in range(-20, 200, 20)]


def test_the_bins_within_the_window_are_averaged(tmp_path):
    time_course = np.where([60 <= start < 180 for start, _ in BINS], 1.0, -50.0)
    path = write_assembly(tmp_path / "t.nc", VALUES * time_course, PRESENTATION, NEUROID, BINS)
    responses = load_neuroid(path, window=(0.06, 0.18))
    assert responses.attrs["window"] == [0.06, 0.18]
    assert recovered(path, window=(0.06, 0.18)) > 0.999
    assert recovered(path, PLANTED * time_course.mean()) > 0.999
    np.testing.assert_allclose(responses.values, load_neuroid(path, window=(0.05, 0.19)).values)
    assert recovered(path, window=(-0.02, 0.06)) < -0.999


def test_a_presentation_that_lacks_a_bin_is_missing(tmp_path):
    values = np.repeat(VALUES, 2, axis=-1)
    values[:, 0, 1] = np.nan
    path = write_assembly(tmp_path / "t.nc", values, PRESENTATION, NEUROID, BINS[:2])
    both, first = load_neuroid(path), load_neuroid(path, window=(-0.02, 0.0))
    assert int(both.isnull().sum() - first.isnull().sum()) == N_V4 + N_IT


@pytest.mark.parametrize("regions", ["V4", ["V4"], {"IT"}, ("IT", "V4")])
def test_regions_keep_their_own_responses(assembly, regions):
    wanted = [regions] if isinstance(regions, str) else list(regions)
    everyone = load_neuroid(assembly)
    xr.testing.assert_identical(load_neuroid(assembly, regions=regions), everyone.sel(unit=everyone.area.isin(wanted)))


def test_the_stimulus_set_gives_names_of_files_and_categories(tmp_path):
    rows = {"stimulus_id": PRESENTATION["stimulus_id"], "repetition": REPETITION}
    path = write_assembly(tmp_path / "assy.nc", VALUES, rows, NEUROID)
    table = write_stimulus_set(tmp_path / "set.csv", STIMULI[::-1], CATEGORIES[::-1])
    responses = load_neuroid(path, companion=table)
    names = [f"astra_rx+00.{11 - i:03d}_{label}_256x256" for i, label in enumerate(STIMULI)]
    assert responses.sel(stimulus=names).category.values.tolist() == CATEGORIES
    np.testing.assert_array_equal(responses.sel(stimulus=names), load_neuroid(path).sel(stimulus=STIMULI))
    write_stimulus_set(table, STIMULI[:-1], CATEGORIES[:-1])
    with pytest.raises(ValueError, match=f"set.csv lacks stimulus '{STIMULI[-1]}'; pass the stimulus set"):
        load_neuroid(path, companion=table)


FACTORS = factors(len(STIMULI))


def test_all_factors_of_the_stimuli_are_kept_and_numbers_stay_numbers(tmp_path):
    shown = {name: [column[i] for i in ORDER] for name, column in FACTORS.items()}
    path = write_assembly(tmp_path / "assy.nc", VALUES, PRESENTATION | shown, NEUROID)
    by_assembly = load_neuroid(path).sel(stimulus=STIMULI)
    rows = {name: PRESENTATION[name] for name in ("stimulus_id", "repetition")}
    path = write_assembly(tmp_path / "bare.nc", VALUES, rows, NEUROID)
    table = write_stimulus_set(tmp_path / "set.csv", STIMULI, CATEGORIES, FACTORS)
    by_table = load_neuroid(path, companion=table)
    for name, column in FACTORS.items():
        for found in (by_assembly, by_table.sortby("stimulus")):
            assert found[name].values.tolist() == column
            assert found[name].dims == ("stimulus",)
    assert by_table.rxy.dtype == float
    assert by_table.variation.dtype.kind == "i"
    assert by_table.background_id.dtype.kind == "U"
    assert not {"filename", "stimulus_id", "repetition", "image_id"} & set(by_table.coords) | {"presentation"} & set(
        by_assembly.coords
    )


def test_what_differs_between_presentations_is_no_factor(tmp_path):
    rows = PRESENTATION | {"onset": np.arange(len(ORDER)).tolist(), "pose": [np.nan if i == 3 else i for i in ORDER]}
    responses = load_neuroid(write_assembly(tmp_path / "assy.nc", VALUES, rows, NEUROID)).sel(stimulus=STIMULI)
    assert "onset" not in responses.coords
    np.testing.assert_array_equal(responses.pose, [np.nan if i == 3 else i for i in range(12)])


def test_factors_with_a_name_that_is_taken_get_another(tmp_path):
    rows = PRESENTATION | {"area": [i / 4 for i in ORDER], "split": ["test"] * len(ORDER)}
    path = write_assembly(tmp_path / "assy.nc", VALUES, rows, NEUROID)
    responses = load_neuroid(path).sel(stimulus=STIMULI)
    assert responses.area.values.tolist() == NEUROID["region"]
    np.testing.assert_array_equal(responses.stimulus_area, np.arange(12) / 4)
    assert responses.stimulus_split.values.tolist() == ["test"] * 12
    assert "split" not in responses.coords
    table = write_stimulus_set(tmp_path / "set.csv", STIMULI, CATEGORIES, {"x": range(12), "col": range(12)})
    responses = load_neuroid(path, companion=table).sortby("stimulus")
    assert responses.stimulus_x.values.tolist() == list(range(12))
    assert responses.stimulus_col.values.tolist() == list(range(12))


def test_codes_with_leading_zeros_and_categories_stay_text_and_missing_numbers_are_nan(tmp_path):
    path = write_assembly(tmp_path / "assy.nc", VALUES, {"stimulus_id": PRESENTATION["stimulus_id"]}, NEUROID)
    more = {"background": ["007", "12"] * 6, "pose": [None, *range(11)], "hue": [None, *"abcdefghijk"]}
    table = write_stimulus_set(tmp_path / "set.csv", STIMULI, [1, 2, 3] * 4, more)
    responses = load_neuroid(path, companion=table).sortby("stimulus")
    assert responses.background.values.tolist() == ["007", "12"] * 6
    assert responses.category.values.tolist() == ["1", "2", "3"] * 4
    assert np.isnan(responses.pose[0])
    assert responses.pose.values[1:].tolist() == list(range(11))
    assert responses.hue.values.tolist() == ["", *"abcdefghijk"]


def test_units_of_an_assembly_have_their_disentanglement_from_its_own_coords(tmp_path):
    ids, rng = [f"{i:03d}" for i in range(120)], np.random.default_rng(0)
    size, pose = rng.uniform(size=(2, 120))
    values = np.stack([size, pose, size + pose])[:, :, np.newaxis] + 0.01 * rng.normal(size=(3, 120, 1))
    path = write_assembly(tmp_path / "a.nc", values, {"stimulus_id": ids, "s": size, "rxy": pose}, neuroids(1, 2))
    found = disentanglement(
        average_repetitions(load_neuroid(path)), ["s", "rxy"], bins=6, n_permutations=0, n_resamples=0
    )
    assert found.item_factor.values[:2].tolist() == ["s", "rxy"]
    assert found.item_disentanglement.values[:2].min() > 2 * found.item_disentanglement.values[2]


@pytest.mark.parametrize("fault", ["shifted", "neuroids shifted", "off by one"])
def test_shifted_files_do_not_give_the_planted_responses(tmp_path, fault):
    rows, values = dict(PRESENTATION), VALUES
    if fault == "shifted":
        values = np.roll(values, 1, axis=1)
    elif fault == "neuroids shifted":
        values = np.roll(values, 1, axis=0)
    else:
        rows["stimulus_id"] = [STIMULI[(i + 1) % 12] for i in ORDER]
        rows["category_name"] = [CATEGORIES[(i + 1) % 12] for i in ORDER]
        rows["object_name"] = ["one"] * len(ORDER)
    assert abs(recovered(write_assembly(tmp_path / "f.nc", values, rows, NEUROID))) < 0.3


def test_a_transposed_file_is_refused(tmp_path):
    square = VALUES[:, : N_V4 + N_IT]
    rows = {name: column[: N_V4 + N_IT] for name, column in PRESENTATION.items()}
    write_assembly(tmp_path / "right.nc", square, rows, NEUROID)
    with netCDF4.Dataset(tmp_path / "right.nc", "r+") as file:
        file.renameDimension("presentation", "other")
        file.renameDimension("neuroid", "presentation")
        file.renameDimension("other", "neuroid")
    with pytest.raises(ValueError, match="has no neuroid_id along neuroid; it has 'stimulus_id', "):
        load_neuroid(tmp_path / "right.nc")


def test_a_category_that_differs_within_a_stimulus_is_refused(tmp_path):
    rows = PRESENTATION | {"category_name": ["Boats", *PRESENTATION["category_name"][1:]]}
    path = write_assembly(tmp_path / "assy.nc", VALUES, rows, NEUROID)
    with pytest.raises(ValueError, match=f"category differs between presentations of stimulus '{STIMULI[ORDER[0]]}'"):
        load_neuroid(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stimulus_coord": "image"}, "has no image along presentation; it has 'stimulus_id', 'repetition', "),
        ({"area_column": "lobe"}, "has no lobe along neuroid; it has 'neuroid_id', 'arr', "),
        ({"regions": "V1"}, "has no unit in 'V1'; it has 'IT', 'V4'"),
        ({"regions": "V4", "area_column": None}, "regions needs area_column"),
        ({"window": (70, 170)}, r"no time bin of .* is within \(70, 170\) s; its 1 bins go from 0.07 to 0.17 s"),
        ({"window": (0.17, 0.07)}, "start before stop"),
        ({"window": 0.07}, r"window must be \(start, stop\) in seconds"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(assembly, wrong, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_neuroid(assembly, **wrong)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_assembly(assembly, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.nc"):
        load_neuroid(tmp_path / "gone.nc")
    xr.Dataset({"r": (("stimulus", "unit"), np.ones((2, 2)))}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(ValueError, match="not a NeuroidAssembly: .* its dims are 'stimulus', 'unit'"):
        load_neuroid(tmp_path / "other.nc")
    whole = assembly.read_bytes()
    broken = {"empty": b"", "pointer": b"version https://git-lfs", "page": b"<!doctype html>", "cut": whole[:-900]}
    for name, content in broken.items():
        (tmp_path / f"{name}.nc").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.nc cannot be read as netCDF: .*fetch") as raised:
            load_neuroid(tmp_path / f"{name}.nc")
        assert "\n" not in str(raised.value)


def test_a_damaged_chunk_is_reported_in_one_line(tmp_path):
    path = write_assembly(tmp_path / "assy.nc", np.repeat(VALUES, 3, axis=-1), PRESENTATION, NEUROID, BINS[:3])
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with pytest.raises(ValueError, match="assy.nc cannot be read as netCDF: .*damaged, fetch it again") as raised:
        load_neuroid(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "storage", [{"contiguous": True}, {"chunksizes": (16, 3000, 2)}], ids=["contiguous", "chunked"]
)
def test_about_twice_the_result_is_in_memory(tmp_path, monkeypatch, storage):
    monkeypatch.setattr(module, "BLOCK_BYTES", 2**19)
    n_units, n, n_bins = 256, 6000, 4
    values = np.random.default_rng(0).normal(size=(n_units, n, n_bins))
    labels = np.arange(n) // 4
    coords = {
        "stimulus_id": ("presentation", labels),
        "repetition": ("presentation", np.arange(n) % 4),
        "neuroid_id": ("neuroid", np.arange(n_units)),
        "region": ("neuroid", ["V4"] * n_units),
    }
    data = xr.Dataset({"data": (DIMS, values)}, coords)
    data.to_netcdf(tmp_path / "big.nc", encoding={"data": storage})
    expected = values[:, :4].mean(axis=-1).T
    del data, values
    load_neuroid(tmp_path / "big.nc")
    tracemalloc.start()
    responses = load_neuroid(tmp_path / "big.nc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(responses.sel(stimulus="0"), expected, rtol=1e-5)
    assert peak < 2.5 * responses.nbytes


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=12).filter(lambda shown: len(set(shown)) > 1))
def test_every_presentation_comes_back_once(tmp_path_factory, shown):
    values = np.arange(1.0, len(shown) + 1).reshape(1, -1, 1)
    one = {name: column[:1] for name, column in NEUROID.items()}
    path = tmp_path_factory.mktemp("h") / "assy.nc"
    responses = load_neuroid(write_assembly(path, values, {"stimulus_id": shown}, one))
    for stimulus in set(shown):
        found = responses.sel(stimulus=stimulus).values.ravel()
        assert found[~np.isnan(found)].tolist() == [i + 1 for i, label in enumerate(shown) if label == stimulus]
