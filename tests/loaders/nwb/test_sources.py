"""ROI responses and rasters: values planted in the frames of a window are recovered under the right name."""

import datetime

import h5py
import numpy as np
import pytest
import xarray as xr
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.core import DynamicTable, VectorData
from pynwb.epoch import TimeIntervals
from pynwb.image import ImageSeries

from neurosuper import average_repetitions, load_nwb

SCENES = {"presentations": "natural_scenes_presentations", "stimulus_column": "frame", "blanks": [-1]}
SHOWN = {"presentations": None, "index_series": "shown", "blanks": [-1]}
DATA = "processing/ophys/DfOverF/DfOverF/data"
ROIS = "processing/ophys/ImageSegmentation/rois"


def load(mouse, **options):
    return load_nwb(mouse.path, **SCENES | {"window": mouse.window, "series": "DfOverF"} | options)


def planted(mouse):
    images = np.unique(mouse.indices[mouse.indices >= 0])
    return np.array([mouse.dff[mouse.indices == image].mean(axis=0) for image in images])


def rewrite(path, change, **attrs):
    """Return damage that replaces a dataset by the result of `change`, keeping its attributes."""

    def damage(file):
        values, kept = change(file[path][:]), dict(file[path].attrs) | attrs
        del file[path]
        file[path] = values
        file[path].attrs.update(kept)

    return damage


def test_planted_responses_come_back_under_the_ids_of_their_rois(mouse):
    dff = load(mouse)
    assert dff.unit.values.tolist() == ["301", "517"]
    assert dff.dims == ("stimulus", "repetition", "unit")
    assert dff.dtype == np.float32
    np.testing.assert_allclose(average_repetitions(dff), planted(mouse), atol=1e-5)
    expected = {"units": "a.u.", "modality": "calcium imaging", "measure": "mean", "series": "DfOverF"}
    assert expected.items() <= dff.attrs.items()
    assert (dff.attrs["n_nan_frames"], dff.attrs["n_unobserved"]) == (0, 0)


def test_onsets_from_the_index_series_give_the_same(mouse):
    by_series = load_nwb(mouse.path, window=mouse.window, series="DfOverF", **SHOWN)
    assert by_series.stimulus.values[:2].tolist() == ["scene0", "scene1"]
    by_number = load(mouse).sel(stimulus=[name.removeprefix("scene") for name in by_series.stimulus.values])
    np.testing.assert_array_equal(by_series, by_number)


def test_a_transposed_file_is_refused(mouse):
    damaged = mouse.damaged(rewrite(DATA, np.transpose))
    with pytest.raises(
        ValueError, match=r"'DfOverF' of .* has .*\(time, column\), not transposed|columns, but .* names"
    ):
        load(damaged)


@pytest.mark.parametrize("shift", [-8, 8])
def test_a_shifted_file_is_noticed(mouse, shift):
    """The correlation that planted responses give (1.0) is lost."""
    damaged = mouse.damaged(rewrite(DATA, lambda data: np.roll(data, shift, axis=0)))
    found = average_repetitions(load(damaged)).values.ravel()
    assert np.corrcoef(average_repetitions(load(mouse)).values.ravel(), planted(mouse).ravel())[0, 1] > 0.999
    assert not np.allclose(found, planted(mouse).ravel(), atol=0.5)


def test_columns_of_the_wrong_roi_are_noticed(mouse):
    damaged = mouse.damaged(rewrite(DATA, lambda data: data[:, ::-1]))
    assert abs(average_repetitions(load(damaged)).values - planted(mouse)).max() > 0.1


def test_units_where_and_area_use_the_table_of_rois(mouse):
    dff = load(mouse, units_where={"layer": "L5"}, area_column="layer")
    assert (dff.unit.values.tolist(), dff.area.values.tolist()) == (["301"], ["L5"])
    np.testing.assert_allclose(average_repetitions(dff)[:, 0], planted(mouse)[:, 0], atol=1e-5)


def test_location_is_taken_from_the_imaging_plane(mouse):
    assert load(mouse, area_column="location", area_map={"VISp": "V1"}).area.values.tolist() == ["V1", "V1"]


def test_conversion_and_offset_are_applied(mouse):
    damaged = mouse.damaged(rewrite(DATA, lambda data: data, conversion=2.0, offset=0.5))
    np.testing.assert_allclose(average_repetitions(load(damaged)), 2 * planted(mouse) + 0.5, atol=1e-5)
    np.testing.assert_allclose(
        average_repetitions(load(damaged, measure="count")), 8 * (2 * planted(mouse) + 0.5), atol=1e-4
    )


@pytest.mark.parametrize(("measure", "factor", "units"), [("count", 8, "a.u."), ("rate", 32, "a.u./s")])
def test_sums_and_sums_per_second(mouse, measure, factor, units):
    dff = load(mouse, measure=measure)
    np.testing.assert_allclose(average_repetitions(dff), factor * planted(mouse), atol=1e-4)
    assert dff.attrs["units"] == units


def test_timestamps_mean_the_same_as_a_rate(mouse):
    def damage(file):
        group = file["processing/ophys/DfOverF/DfOverF"]
        del group["starting_time"]
        group["timestamps"] = np.arange(len(group["data"])) / 32
        group["timestamps"].attrs.update(unit="seconds", interval=1)

    xr.testing.assert_equal(load(mouse.damaged(damage)), load(mouse))


def test_nan_frames_are_left_out_and_counted(mouse):
    first = int(mouse.onsets[np.flatnonzero(mouse.indices >= 0)[0]] * 32)

    def blot(data):
        data[first : first + 3, 1] = np.nan
        return data

    dff = load(mouse.damaged(rewrite(DATA, blot)))
    assert dff.attrs["n_nan_frames"] == 3
    np.testing.assert_allclose(average_repetitions(dff), planted(mouse), atol=1e-5)


def test_a_window_without_a_frame_is_nan_and_counted(mouse):
    n_frames = int(mouse.onsets[-5] * 32) + 4  # half of the window of the last but four, none of the last four
    damaged = mouse.damaged(rewrite(DATA, lambda data: data[:n_frames]))
    lost = {"mean": 4, "count": 5, "rate": 5}  # a sum over half a window is too small, a mean is not
    for measure, n_lost in lost.items():
        dff = load(damaged, measure=measure, blanks=[])
        assert dff.attrs["n_unobserved"] == 2 * n_lost
        assert int(dff.notnull().sum()) == 2 * (len(mouse.onsets) - n_lost)


def test_rois_recorded_late_take_later_frames(mouse):
    """The window of a ROI recorded 1.5 frames late contains the frames −1 to 6, of another ROI 0 to 7."""

    def damage(file):
        rois = file[ROIS]
        rois["delay"] = np.array([0.0, 9.0, 1.5 / 32])
        rois["delay"].attrs.update(dict(rois["layer"].attrs), description="s", object_id="1")
        rois.attrs["colnames"] = np.append(rois.attrs["colnames"], "delay")
        rewrite(DATA, lambda data: np.add.outer(np.arange(len(data)), np.zeros(2)))(file)

    delayed = load(mouse.damaged(damage), roi_delay_column="delay")
    assert delayed.unit.values.tolist() == ["301", "517"]
    np.testing.assert_allclose(
        delayed.sel(unit="517") - delayed.sel(unit="301"), np.where(delayed[..., 0].isnull(), np.nan, 1.0)
    )


def test_no_frame_in_any_window_gives_a_warning(mouse):
    with pytest.warns(UserWarning, match=r"no frame falls into any window .* got \(50, 250\)"):
        load(mouse, window=(50, 250))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"measure": "median"}, "measure must be 'mean', 'rate' or 'count', got 'median'"),
        ({"series": "dff"}, "no time series 'dff' in mouse.nwb; it has the time series .*'ophys/DfOverF/DfOverF'"),
        ({"roi_delay_column": "delay"}, "no column 'delay' in table 'rois'; it has 'layer', "),
        ({"unit_names": "rois/layer"}, "has 2 columns, but 3 names of units; check unit_names"),
        ({"unit_names": "names/layer"}, "no table of unit_names 'names' in mouse.nwb; it has "),
        ({"window": {"VISp": (0, 1)}}, "window names the areas 'VISp'; pass area_column"),
        ({"window": {}}, "window names no area"),
        ({"window": {"V4": (0.0, 1.0)}, "area_column": "location"}, "no window for area 'VISp'; window has 'V4'"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(mouse, wrong, message):
    with pytest.raises(ValueError, match=message) as raised:
        load(mouse, **wrong)
    assert "\n" not in str(raised.value)


def test_several_series_are_set_side_by_side(mouse):
    def damage(file):
        file.copy("processing/ophys/DfOverF/DfOverF", "processing/ophys/DfOverF/plane2")
        rewrite("processing/ophys/DfOverF/plane2/data", lambda data: 2 * data)(file)
        file["processing/ophys/DfOverF/plane2"].attrs["object_id"] = "2"
        file["processing/ophys/DfOverF/plane2/rois"].attrs.update(object_id="3", table=file[ROIS].ref)

    both = load(mouse.damaged(damage), series=["DfOverF/DfOverF", "plane2"], units_where={"layer": ["L2", "L5"]})
    assert both.unit.values.tolist() == ["DfOverF/DfOverF/301", "DfOverF/DfOverF/517", "plane2/301", "plane2/517"]
    np.testing.assert_allclose(both[..., 2:], 2 * both[..., :2], rtol=1e-6)
    only = load(
        mouse.damaged(damage), series=["DfOverF/DfOverF", "plane2"], units_where={"layer": "L5"}, area_column="layer"
    )
    assert (only.unit.values.tolist(), only.area.values.tolist()) == (
        ["DfOverF/DfOverF/301", "plane2/301"],
        ["L5", "L5"],
    )


@pytest.mark.parametrize("rate", [-32.0, np.inf, np.nan])
def test_an_impossible_rate_is_refused(mouse, rate):
    def damage(file):
        file[DATA].parent["starting_time"].attrs["rate"] = rate

    with pytest.raises(
        ValueError, match="'DfOverF' starts at 0 s and has a rate of .* both must be finite, and the rate"
    ):
        load(mouse.damaged(damage))


@pytest.mark.parametrize("last", [np.nan, np.inf, 0.0])
def test_timestamps_that_are_not_finite_and_in_order_are_refused(mouse, last):
    def damage(file):
        series = file[DATA].parent
        times = np.arange(len(series["data"])) / 32
        times[-1] = last
        del series["starting_time"]
        series["timestamps"] = times
        series["timestamps"].attrs.update(unit="seconds", interval=1)

    with pytest.raises(ValueError, match="the timestamps of time series 'DfOverF' .* are not .* name another series"):
        load(mouse.damaged(damage))


def test_values_that_are_not_finite_are_left_out_and_counted(mouse):
    first = int(mouse.onsets[5] * 32)

    def damage(file):
        file[DATA][first] = np.inf
        file[DATA][first + 1] = [np.nan, -np.inf]

    found, whole = load(mouse.damaged(damage)), load(mouse)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert (found.attrs["n_nan_frames"], found.attrs["n_unobserved"]) == (4 if mouse.indices[5] >= 0 else 0, 0)


def test_a_series_without_any_number_gives_a_warning(mouse):
    damaged = mouse.damaged(rewrite(DATA, lambda data: np.full_like(data, np.nan)))
    with pytest.warns(UserWarning, match="no frame .*; 768 values in windows are NaN or infinite and were left out"):
        assert load(damaged).isnull().all()


START = datetime.datetime(2021, 1, 20, 16, 34, tzinfo=datetime.UTC)
FILES = [f"Stimuli/{name}.jpg" for name in ("owl", "cat", "eel")]
INDEX = np.array([2, 0, 1, 1, 0, 2, 0])
ONSETS = 0.5 + 0.6 * np.arange(7)
RASTER = np.random.default_rng(5).random((5000, 4)) < 0.05


def write(nwb, path):
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


@pytest.fixture(scope="session")
def free_viewing(tmp_path_factory):
    """A session in the layout of dandiset 000628: images by name only, rasters in another file."""
    folder = tmp_path_factory.mktemp("viewing")
    main = NWBFile("Pa", "Pa-main", START)
    table = TimeIntervals(name="presentations", description="when")
    for onset in ONSETS:
        table.add_row(start_time=onset, stop_time=onset + 0.4)
    main.add_time_intervals(table)
    images = ImageSeries(
        name="stimuli",
        external_file=FILES,
        starting_frame=[0, 1, 2],
        format="external",
        unit="n.a.",
        timestamps=np.arange(3.0),
        dimension=[4, 4],
    )
    main.add_stimulus_template(images)
    rasters = NWBFile("Pa", "Pa-rasters", START)
    names = VectorData(name="unit_name", description="bank-channel", data=["CH1", "CH2A", "CH2B", "CH9"])
    module = rasters.create_processing_module("ecephys", "rasters")
    module.add(DynamicTable(name="unit_names", description="names", columns=[names]))
    module.add(TimeSeries(name="rasters", data=RASTER.astype(np.uint8), unit="n.a.", rate=1000.0, starting_time=0.0))
    write(main, folder / "Pa-main.nwb")
    with h5py.File(folder / "Pa-main.nwb", "r+") as file:
        add_index_series(file["stimulus/presentation"])
    return folder / "Pa-main.nwb", write(rasters, folder / "Pa-rasters.nwb")


def add_index_series(stimuli):
    """Link it by `indexed_timeseries`, which pynwb reads but no longer writes."""
    series = stimuli.create_group("presentations")
    series.attrs.update(namespace="core", neurodata_type="IndexSeries", object_id="1", comments="", description="")
    series["data"], series["timestamps"] = INDEX.astype(np.uint64), ONSETS
    series["data"].attrs.update(unit="N/A", conversion=1.0, resolution=-1.0)
    series["timestamps"].attrs.update(unit="seconds", interval=1)
    series["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/stimuli")


VIEWING = {"presentations": "presentations", "index_series": "presentations", "window": (0.07, 0.27)}


def test_rasters_in_a_companion_are_counted(free_viewing):
    main, companion = free_viewing
    options = {"series": "rasters", "unit_names": "unit_names/unit_name", "measure": "count"}
    counts = load_nwb(main, companion=companion, **VIEWING, **options)
    assert counts.stimulus.values.tolist() == ["cat", "eel", "owl"]
    assert counts.unit.values.tolist() == ["CH1", "CH2A", "CH2B", "CH9"]
    firsts = np.round((ONSETS + 0.07) * 1000).astype(int)
    planted = np.array([RASTER[first : first + 200].sum(axis=0) for first in firsts])
    np.testing.assert_array_equal(counts.sel(stimulus="owl"), planted[INDEX == 0])
    np.testing.assert_array_equal(counts.sel(stimulus="eel")[:2], planted[INDEX == 2])
    expected = {
        "units": "spike count",
        "modality": "spikes",
        "companion": "Pa-rasters.nwb",
        "companion_reader": "pynwb",
    }
    assert expected.items() <= counts.attrs.items()


def test_a_session_without_responses_asks_for_its_companion_by_name(free_viewing):
    main, companion = free_viewing
    asks = (
        r"in Pa-main.nwb; its spikes are in a companion file of session 'Pa' \(such as Pa-rasters.nwb\): pass companion"
    )
    with pytest.raises(ValueError, match="no Units table with spike times " + asks):
        load_nwb(main, **VIEWING)
    with pytest.raises(ValueError, match="no time series 'rasters' " + asks):
        load_nwb(main, **VIEWING, series="rasters")
    with pytest.raises(
        ValueError, match="no Units table .* in Pa-rasters.nwb; it has the time series 'ecephys/rasters'"
    ):
        load_nwb(main, **VIEWING, companion=companion)
    with pytest.raises(
        ValueError, match="no time series 'rasters' in Pa-main.nwb, nor any other responses; check companion="
    ):
        load_nwb(main, **VIEWING, companion=main, series="rasters")


def test_a_session_with_spikes_and_no_series_is_refused_with_the_remedy(write_nwb):
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1]}])
    message = (
        "no time series 'rasters' in session.nwb, but spikes in a Units table: leave series= out, or pass companion="
    )
    with pytest.raises(ValueError, match=message):
        load_nwb(path, stimulus_column="image", window=(0.0, 0.25), series="rasters")


def test_a_companion_that_began_at_another_time_gives_a_warning(free_viewing, tmp_path):
    main, companion = free_viewing
    (tmp_path / "late.nwb").write_bytes(companion.read_bytes())
    with h5py.File(tmp_path / "late.nwb", "r+") as file:
        del file["session_start_time"]
        file["session_start_time"] = "2021-01-20T16:35:00+00:00"
    with pytest.warns(
        UserWarning, match=r"Pa-main.nwb began at .*16:34:00.*, but its companion late.nwb at .*16:35:00"
    ):
        load_nwb(main, companion=tmp_path / "late.nwb", series="rasters", **VIEWING)


@pytest.mark.parametrize("there", ["2021-01-20T11:34:00-05:00", "2021-01-20T16:34:00.000000Z"])
def test_a_companion_that_began_at_the_same_time_in_another_time_zone_passes(free_viewing, tmp_path, there):
    main, companion = free_viewing
    (tmp_path / "elsewhere.nwb").write_bytes(companion.read_bytes())
    with h5py.File(tmp_path / "elsewhere.nwb", "r+") as file:
        del file["session_start_time"]
        file["session_start_time"] = there
    counts = load_nwb(main, companion=tmp_path / "elsewhere.nwb", series="rasters", **VIEWING)
    assert counts.attrs["companion"] == "elsewhere.nwb"


def test_the_real_session_lists_its_presentations_and_asks_for_its_companion(real_data):
    from neurosuper.loaders import load_presentations

    path = real_data / "nwb" / "Pa210120-main.nwb"
    shown = load_presentations(path, presentations="presentations", index_series="presentations")
    assert shown.sizes == {"presentation": 1507}
    assert shown.attrs["reader"] == "pynwb"
    assert len(shown.attrs["images"]) == 144
    assert set(shown.stimulus.values) <= set(shown.attrs["images"])
    assert shown.stimulus[0].item() == shown.attrs["images"][30]
    assert (shown.offset > shown.onset).all()
    with pytest.raises(ValueError, match=r"companion file of session 'Pa210120' \(such as Pa210120-rasters.nwb\)"):
        load_nwb(path, series="rasters", **VIEWING)


def test_a_single_column_may_be_stored_in_one_row_or_without_rows(mouse):
    for change in (lambda data: data[:, 0], lambda data: data[:, :1].T):

        def damage(file, change=change):
            rewrite(DATA, change)(file)
            rewrite(DATA.replace("data", "rois"), lambda rois: rois[:1])(file)
            del file[DATA].parent["starting_time"]
            file[DATA].parent["timestamps"] = np.arange(file[DATA].size) / 32
            file[DATA].parent["timestamps"].attrs.update(unit="seconds", interval=1)

        dff = load(mouse.damaged(damage))
        assert dff.unit.values.tolist() == ["301"]
        np.testing.assert_allclose(average_repetitions(dff)[:, 0], planted(mouse)[:, 0], atol=1e-5)
