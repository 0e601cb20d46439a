"""A file that contradicts itself gives an error or a warning in one line with both readers; a good file passes."""

import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosuper import load_nwb
from neurosuper.loaders import load_presentations
from neurosuper.loaders.nwb import load_nwb_images
from neurosuper.loaders.nwb.validate import check_intervals, check_region, check_stops

SCENES = "natural_scenes_presentations"
WINDOW = (0.0, 0.25)


def spikes(path, **options):
    return load_nwb(path, presentations=SCENES, stimulus_column="frame", blanks=-1, window=WINDOW, **options)


def good_units(path):
    return spikes(path, units_where={"quality": "good"})


def areas(path):
    return spikes(path, area_column="location")


def dff(path):
    return spikes(path, series="DfOverF")


def by_index(path):
    return load_nwb(path, presentations=None, index_series="shown", blanks=-1, window=WINDOW)


def trials(path):
    return load_nwb(path, stimulus_column="image", window=WINDOW, area_column="location")


def change(path, function):
    """Return damage that writes a dataset again with other values and the same attributes."""

    def damage(file):
        attrs, values = dict(file[path].attrs), function(file[path][()])
        del file[path]
        file[path] = values
        file[path].attrs.update(attrs)

    return damage


def put(path, place, value, dtype=None):
    def function(values):
        values = values.astype(dtype or values.dtype)
        values[place] = value
        return values

    return change(path, function)


def never_write(path, n_written=0):
    """Return damage that allocates a dataset and writes at most the first of its values."""

    def damage(file):
        attrs, values = dict(file[path].attrs), file[path][()]
        del file[path]
        stored = file.create_dataset(path, values.shape, values.dtype, chunks=(4, *values.shape[1:]))
        if n_written:
            stored[:n_written] = values[:n_written]
        stored.attrs.update(attrs)

    return damage


def unlist(column):
    """Return damage that removes a column of the units from the list of columns."""

    def damage(file):
        names = file["units"].attrs["colnames"]
        file["units"].attrs["colnames"] = names[names != column]

    return damage


def set_attribute(path, name, value):
    return lambda file: file[path].attrs.__setitem__(name, value)


def refer_twice(file):
    order = file["stimulus/templates/scenes/order_of_images"]
    order[4] = order[7]


def refer_to_a_group(file):
    file["stimulus/templates/scenes/order_of_images"][4] = file["intervals"].ref


def lose_mask(file):
    del file[MASK]  # its index is still there


def lose_type_of_mask(file):
    for name in ("neurodata_type", "colnames"):
        del file["intervals/invalid_times"].attrs[name]


FRAME, DFF, ROIS = (
    f"intervals/{SCENES}/frame",
    "processing/ophys/DfOverF/DfOverF/data",
    "processing/ophys/DfOverF/DfOverF",
)
STOPS, MASK = "units/spike_times_index", "units/obs_intervals"
REFUSED = [
    (spikes, change(FRAME, lambda v: np.append(v, [1, 2, 3])), r"'frame' of table .* has 63 values for 60 rows"),
    (spikes, change(f"intervals/{SCENES}/start_time", lambda v: v[:57]), r"'start_time' .* has 57 values for 60 rows"),
    (spikes, change(f"intervals/{SCENES}/id", lambda v: v[:31]), r"has 60 values for 31 rows"),
    (good_units, change("units/quality", lambda v: v[:2]), r"'quality' of table 'units' has 2 values for 4 rows"),
    (spikes, put(STOPS, 2, 10**5, "i8"), r"'spike_times_index' of table 'units' falls from 100000 to \d+ at row 3"),
    (spikes, put(STOPS, 3, 10**5, "i8"), r"'spike_times_index' .* ends at 100000, but its column has \d+ values"),
    (spikes, put(STOPS, slice(None), 0), r"'spike_times_index' .* ends at 0, but its column has \d+ values"),
    (spikes, change(STOPS, lambda v: np.array([9, 99, 199, 255], "u1")), r"ends at 255, but its column has \d+ values"),
    (spikes, change(STOPS, lambda v: v + 0.5), r"'spike_times_index' .* has float64 .* not one whole number per row"),
    (spikes, change("units/spike_times", lambda v: v.astype("S9")), r"spike_times of .* must be flat, and contain num"),
    (spikes, never_write("units/spike_times"), r"'spike_times' .* room for \d+ values, but none was ever written"),
    (spikes, never_write(STOPS), r"'spike_times_index' .* room for 4 values, but none was ever written"),
    (spikes, put(FRAME, 3, np.inf), r"'frame' .* has the number inf"),
    (spikes, put(FRAME, 3, 2.0**53), r"'frame' .* has the number 9\.0.*e\+15"),
    (spikes, change(FRAME, lambda v: v + 1j), r"'frame' .* complex128, which is neither text nor numbers"),
    (spikes, put("units/id", 1, np.inf, "f8"), r"'id' of table 'units' contains numbers that are not whole"),
    (
        spikes,
        change("units/id", lambda v: v[:, np.newaxis]),
        r"'id' of table 'units' has the shape \(4, 1\), not one id",
    ),
    (spikes, put("units/id", 2, 951), r"several units are called '951'; pass unit_names='units/.*', or keep one"),
    (areas, put("general/extracellular_ephys/electrodes/id", 2, 850), r"ids of table 'electrodes' .* '850' in several"),
    (
        dff,
        put(f"{ROIS}/rois", 1, -1, "i8"),
        r"rois of time series 'DfOverF' .* row -1 of table 'rois', which has 3 rows",
    ),
    (dff, put(f"{ROIS}/rois", 1, 3, "i8"), r"refers to row 3 of table 'rois', which has 3 rows"),
    (dff, put(f"{ROIS}/rois", 1, 2), r"several units are called '301'; pass unit_names='table/column'"),
    (dff, change(DFF, lambda v: v[:, :1]), r"has 1 columns, but 2 names of units"),
    (
        dff,
        set_attribute(DFF, "conversion", 0.0),
        r"'DfOverF' .* has the conversion 0\.0, but it must be finite and not 0",
    ),
    (dff, set_attribute(DFF, "offset", np.inf), r"'DfOverF' .* has the offset inf, but it must be finite"),
    (dff, set_attribute(f"{ROIS}/starting_time", "rate", -30.0), r"'DfOverF' .* rate of -30 Hz; both must be finite"),
    (dff, never_write(DFF), r"data of time series 'DfOverF' .* none was ever written"),
    (by_index, change("stimulus/presentation/shown/data", lambda v: v[:44]), r"has 44 indices for 60 timestamps"),
    (by_index, put("stimulus/presentation/shown/data", 8, 40), r"has the index 40, but indices .* go from 0 to 11"),
    (by_index, never_write("stimulus/presentation/shown/timestamps"), r"timestamps .* none was ever written"),
    (load_nwb_images, refer_twice, r"order_of_images of template '\w+': images are not unique: 'scene7'"),
    (load_nwb_images, refer_to_a_group, r"order_of_images of template '\w+' refers to 'intervals', .* none of its 12"),
    (load_nwb_images, never_write("stimulus/templates/scenes/scene5"), r"image 'scene5' .* none was ever written"),
]
OF_TRIALS = [
    (put("units/electrodes", 1, -1, "i8"), r"'electrodes' of table 'units' refers to row -1 of .*, which has 4 rows"),
    (put("units/electrodes", 1, 4, "i8"), r"'electrodes' of table 'units' refers to row 4 of .*, which has 4 rows"),
    (put("units/electrodes_index", 1, 90, "i8"), r"'electrodes_index' .* ends at 90, but its column has 2 values"),
    (put(f"{MASK}_index", 0, 3, "i8"), r"'obs_intervals_index' .* falls from 3 to 2 at row 1"),
    (change(MASK, lambda v: v[:, ::-1]), r"obs_intervals of .* has the interval 9 to 0 s in row 0 \(2 such rows\)"),
    (put(MASK, (1, 0), np.nan), r"obs_intervals of .* has the interval nan to 9 s in row 1 \(1 such"),
    (change(MASK, lambda v: v[:, 0]), r"obs_intervals of .* of shape \(2,\); it must be \(interval, 2\)"),
    (unlist("obs_intervals"), r"obs_intervals of .* is in the file, but cannot be read"),
    (put("intervals/invalid_times/stop_time", 0, 1.0), r"invalid_times of .* has the interval 3 to 1 s"),
    (put("intervals/invalid_times/start_time", 0, np.nan), r"invalid_times of .* has the interval nan to 3\.5 s"),
    (
        change("intervals/invalid_times/stop_time", lambda v: np.append(v, 9.0)),
        r"'stop_time' .* has 2 values for 1 rows",
    ),
    (lose_type_of_mask, r"intervals/invalid_times cannot be read as a table of intervals"),
]
WARNED = [
    (spikes, put(STOPS, 3, 999, "i8"), r"'spike_times_index' .* ends at 999, but .* the last \d+ belong to no row"),
    (
        spikes,
        change("units/spike_times", lambda v: v.astype("i4")),
        r"spike times are int32, which near .* rounds to 1 s",
    ),
    (areas, put("units/peak_channel_id", 1, 7), r"1 of 4 units have a peak_channel_id \(such as 7\) that is not among"),
    (areas, put("units/peak_channel_id", 1, np.nan, "f8"), r"1 of 4 units .* \(such as nan\) that is not among"),
    (
        load_presentations,
        put(f"intervals/{SCENES}/stop_time", 6, 0.0),
        r"stop_time is before start_time in 1 of 60 presentations",
    ),
    (spikes, put(FRAME, np.array([3]), 2.5), r"'frame' .* has 1 of \d+ numbers that are not whole, such as 2\.5"),
    (
        spikes,
        never_write("units/spike_times", 900),
        r"parts of .* 'spike_times' .* were never written, and are read as",
    ),
]


@pytest.fixture(params=["pynwb", "h5py"])
def reader(request, monkeypatch):
    """Read with pynwb if possible, or never."""

    def refuse(*args):
        raise KeyError("not today")

    if request.param == "h5py":
        monkeypatch.setattr("neurosuper.loaders.nwb.session.PynwbSession", refuse)
    return request.param


def listed(load):
    return (
        (lambda path: load(path, presentations=SCENES, stimulus_column="frame")) if load is load_presentations else load
    )


@pytest.fixture(scope="module")
def recorded(write_nwb):
    """Two units with electrodes that were observed until 9 s, and invalid times."""
    units = [{"spike_times": [0.6 + i, 2.1], "electrodes": [3 - i], "obs_intervals": [[0.0, 9.0]]} for i in range(2)]
    return write_nwb("abab", [0.5, 1.5, 3.0, 4.5], units, invalid=[(3.0, 3.5)])


def copy_of(path, tmp_path, damage):
    copied = tmp_path / "copy.nwb"
    copied.write_bytes(path.read_bytes())
    with h5py.File(copied, "r+") as file:
        damage(file)
    return copied


@pytest.mark.parametrize(("load", "planted"), [(spikes, "counts"), (dff, "dff")])
def test_a_good_file_is_read_by_both(mouse, reader, load, planted):
    found = load(mouse.path)
    assert found.attrs["reader"].startswith(reader)
    values = getattr(mouse, planted)[mouse.indices == 3] * (4 if planted == "counts" else 1)  # per second
    np.testing.assert_allclose(found.sel(stimulus="3"), values, rtol=1e-6)


@pytest.mark.parametrize(("load", "damage", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_a_contradiction_is_refused_in_one_line(mouse, tmp_path, reader, load, damage, message):
    with pytest.raises(ValueError, match=message) as raised:
        load(copy_of(mouse.path, tmp_path, damage))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("damage", "message"), OF_TRIALS, ids=[message for _, message in OF_TRIALS])
def test_a_mask_or_region_that_cannot_be_read_is_refused_in_one_line(recorded, tmp_path, reader, damage, message):
    with pytest.raises(ValueError, match=message) as raised:
        trials(copy_of(recorded, tmp_path, damage))
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:columns of table 'units'")
def test_a_mask_that_lost_all_but_its_index_is_refused(recorded, tmp_path, reader):
    with pytest.raises(ValueError, match="obs_intervals of copy.nwb is in the file, but cannot be read"):
        trials(copy_of(recorded, tmp_path, lose_mask))


@pytest.mark.filterwarnings("ignore:spike times")
@pytest.mark.parametrize(("load", "damage", "message"), WARNED, ids=[message for _, _, message in WARNED])
def test_suspicious_values_give_a_warning(mouse, tmp_path, reader, load, damage, message):
    with pytest.warns(UserWarning, match=message):
        listed(load)(copy_of(mouse.path, tmp_path, damage))


def test_a_column_that_the_second_reader_leaves_out_gives_a_warning(mouse, tmp_path):
    def damage(file):
        file["units"].attrs["colnames"] = [*file["units"].attrs["colnames"], "depth"]

    with pytest.warns(
        UserWarning, match="columns of table 'units' of copy.nwb that cannot be read are left out: 'depth'"
    ):
        spikes(copy_of(mouse.path, tmp_path, damage))


def test_a_broken_link_gives_a_warning(mouse, tmp_path):
    def damage(file):
        file["processing/ophys/more"] = h5py.SoftLink("/processing/gone")
        del file["session_description"]

    with pytest.warns(UserWarning, match="links in processing/ophys of copy.nwb that cannot .* are left out: 'more'"):
        dff(copy_of(mouse.path, tmp_path, damage))


def test_blanks_may_be_infinite_or_large(mouse, tmp_path):
    path = copy_of(mouse.path, tmp_path, put(FRAME, 3, np.inf))
    found = load_presentations(path, presentations=SCENES, stimulus_column="frame", blanks=[-1, np.inf])
    assert found.attrs["n_blanks"] == 12 + (mouse.indices[3] != -1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 8), st.integers(-99, 99))
def test_an_index_is_accepted_if_it_divides_all_values_into_rows(lengths, row, shift):
    stops = np.cumsum(lengths)
    n_values = int(stops[-1])
    stops[row % len(stops)] += shift
    rises = (np.diff(stops, prepend=0) >= 0).all()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = check_stops(stops, len(stops), n_values, "index")
        except ValueError:
            assert not rises or stops[-1] > n_values or (stops[-1] == 0 < n_values)
            return
    assert found.tolist() == stops.tolist()
    assert rises
    assert bool(caught) == (stops[-1] < n_values)


@given(st.lists(st.integers(-3, 9), max_size=9), st.integers(0, 9))
def test_a_region_is_accepted_if_all_its_rows_exist(rows, n_rows):
    if all(0 <= row < n_rows for row in rows):
        assert check_region(np.array(rows, int), n_rows, "region", "table").tolist() == rows
    else:
        with pytest.raises(ValueError, match=f"of table, which has {n_rows} rows"):
            check_region(np.array(rows, int), n_rows, "region", "table")


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=5))
def test_intervals_are_accepted_if_each_starts_before_it_stops(spans):
    intervals = np.array(spans, float).reshape(-1, 2)
    if all(start <= stop for start, stop in spans):
        check_intervals(intervals, "mask")
    else:
        with pytest.raises(ValueError, match="a stop that is not before it"):
            check_intervals(intervals, "mask")
