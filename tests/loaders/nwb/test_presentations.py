"""Presentations: by a column, by an IndexSeries, or joined row by row."""

import io

import h5py
import numpy as np
import pytest
import xarray as xr

from neurosuper import load_nwb
from neurosuper.loaders import load_presentations

SHOWN = {"presentations": None, "index_series": "shown", "blanks": [-1]}


def test_a_table_is_listed_with_offsets(mouse):
    shown = load_presentations(mouse.path, presentations=mouse.table, stimulus_column="frame")
    assert shown.stimulus.values.tolist() == [str(i) for i in mouse.indices]
    np.testing.assert_array_equal(shown.onset, mouse.onsets)
    np.testing.assert_array_equal(shown.offset, mouse.onsets + 0.25)
    assert (shown.onset.attrs["units"], shown.attrs["session"], shown.attrs["reader"]) == ("s", "mouse 1", "pynwb")


def test_an_index_series_is_listed_without_offsets_and_with_all_images(mouse):
    shown = load_presentations(mouse.path, **SHOWN)
    assert shown.stimulus.values.tolist() == [f"scene{i}" for i in mouse.indices if i >= 0]
    assert shown.offset.isnull().all()
    assert shown.attrs["images"] == [f"scene{i}" for i in range(12)]
    assert (shown.attrs["n_presentations"], shown.attrs["n_blanks"]) == (48, 12)


@pytest.mark.parametrize(
    ("dtype", "wrapped"),
    [
        *[("u2", 65535), ("u4", 2**32 - 1), ("u4", 65535), ("f8", 2.0**64), ("u1", 255)],
        *[("f8", 2**32 - 1), ("i8", 2**32 - 1), ("u8", 2**32 - 1)],  # a wider type keeps what a narrower one made of it
    ],
)
def test_a_blank_of_a_column_may_be_wrapped(mouse, dtype, wrapped):
    def damage(file):
        column = file[f"intervals/{mouse.table}/frame"]
        attrs = dict(column.attrs)
        del file[column.name]
        file[f"intervals/{mouse.table}/frame"] = np.where(mouse.indices < 0, wrapped, mouse.indices).astype(dtype)
        file[f"intervals/{mouse.table}/frame"].attrs.update(attrs)

    damaged = mouse.damaged(damage)
    shown = load_presentations(damaged.path, presentations=mouse.table, stimulus_column="frame", blanks=-1)
    assert (shown.attrs["n_blanks"], len(shown.attrs["images"])) == (12, 12)
    whole = load_presentations(damaged.path, presentations=mouse.table, stimulus_column="frame")
    assert (whole.attrs["n_blanks"], len(whole.attrs["images"])) == (0, 13)


def test_a_list_survives_netcdf(mouse, tmp_path):
    shown = load_presentations(mouse.path, **SHOWN)
    shown.to_netcdf(tmp_path / "shown.nc")
    again = xr.load_dataset(tmp_path / "shown.nc", decode_timedelta=False)
    xr.testing.assert_equal(again, shown)
    assert list(again.attrs["images"]) == shown.attrs["images"]


def test_both_are_joined_by_row(mouse):
    """The onset comes from the row, the label from the series."""

    def damage(file):
        file["stimulus/presentation/shown/timestamps"][...] += 0.125

    joined = load_presentations(mouse.damaged(damage).path, **SHOWN | {"presentations": mouse.table})
    np.testing.assert_array_equal(joined.onset, mouse.onsets[mouse.indices >= 0])
    assert joined.stimulus.values.tolist() == [f"scene{i}" for i in mouse.indices if i >= 0]
    assert joined.offset.notnull().all()


def refused(match, mouse, **options):
    with pytest.raises(ValueError, match=match) as raised:
        load_presentations(mouse.path, **options)
    assert "\n" not in str(raised.value)


def test_rows_that_do_not_match_are_refused(mouse):
    def damage(file):
        series = file["stimulus/presentation/shown"]
        for name in ("data", "timestamps"):
            values, attrs = series[name][:-1], dict(series[name].attrs)
            del series[name]
            series[name] = values
            series[name].attrs.update(attrs)

    damaged = mouse.damaged(damage)
    message = "'shown' of .* has 59 indices for 60 rows in table 'natural_scenes_presentations'; their numbers must be"
    refused(message, damaged, **SHOWN | {"presentations": mouse.table})
    assert load_presentations(damaged.path, **SHOWN).sizes["presentation"] in (47, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "named by stimulus_column or by index_series, got None and None; give one of the two, such as "
            "stimulus_column='frame' of 'natural_scenes_presentations', index_series='shown' .neurosuper.inspect_nwb",
        ),
        ({"stimulus_column": "frame", "index_series": "shown"}, "got 'frame' and 'shown'; give one of the two"),
        (
            {"presentations": None, "stimulus_column": "frame"},
            "presentations is None, which requires an index_series, and no stimulus_column, .* name a table",
        ),
        ({"presentations": None, "index_series": "seen"}, "no index_series 'seen' in mouse.nwb; it has 'shown'"),
        (
            SHOWN | {"blanks": [-1, *range(12)]},
            "no presentation left of 60 in index_series 'shown': 60 blank, 0 without",
        ),
        (
            {"index_series": "shown"},
            "no table of presentations 'trials' in mouse.nwb; it has 'natural_scenes_presentations'",
        ),
    ],
)
def test_wrong_requests_are_refused_in_one_line(mouse, options, message):
    refused(message, mouse, **options)


def test_indices_that_are_not_whole_or_not_one_each(mouse):
    def to(values):
        def damage(file):
            attrs = dict(file["stimulus/presentation/shown/data"].attrs)
            del file["stimulus/presentation/shown/data"]
            file["stimulus/presentation/shown/data"] = values
            file["stimulus/presentation/shown/data"].attrs.update(attrs)

        return mouse.damaged(damage)

    refused("has the index 1.5, but indices of its template 'scenes' go from 0 to 11", to(np.full(60, 1.5)), **SHOWN)
    refused(
        r"index_series 'shown' of .* has .* of shape \(60, 2\), not one index", to(np.zeros((60, 2), "u4")), **SHOWN
    )
    whole = load_presentations(to(np.where(mouse.indices < 0, np.nan, mouse.indices)).path, **SHOWN)
    assert (whole.attrs["n_missing"], whole.attrs["n_presentations"]) == (12, 48)


def test_windows_by_area(mouse):
    """The areas of the mouse respond in different windows."""
    named = {"presentations": mouse.table, "stimulus_column": "frame", "area_column": "location", "measure": "count"}
    window = {"VISp": (0.0, 0.125), "all": (0.0, 0.25)}
    both = load_nwb(mouse.path, window=window, **named)
    for area, span in (("VISp", (0.0, 0.125)), ("VISl", (0.0, 0.25))):
        single = load_nwb(mouse.path, window=span, **named)
        np.testing.assert_array_equal(both[..., both.area == area], single[..., single.area == area])
    assert both.attrs["window"] == '{"VISp": [0.0, 0.125], "all": [0.0, 0.25]}'
    assert (both.area == "VISp").values.tolist() == [True, False, True, False]
    rate = load_nwb(mouse.path, window=window, **named | {"measure": "rate"})
    np.testing.assert_array_equal(
        rate / both.where(both > 0), np.where(both > 0, np.where(both.area == "VISp", 8, 4), np.nan)
    )


class Counted(io.FileIO):
    """A file that counts the bytes that are read, as a remote file would send them."""

    sent = 0

    def readinto(self, buffer):
        n = super().readinto(buffer)
        self.sent += n
        return n


def test_a_stream_is_read_like_a_file_and_only_where_needed(write_nwb, tmp_path):
    rng = np.random.default_rng(0)
    units = [{"spike_times": np.sort(rng.random(200_000)) * 100, "good": i == 1} for i in range(4)]
    path = write_nwb("abcd", [1.0, 2.0, 3.0, 4.0], units)
    with h5py.File(path, "r+") as file:
        spikes, attrs = file["units/spike_times"][:], dict(file["units/spike_times"].attrs)
        del file["units/spike_times"]
        file.create_dataset("units/spike_times", data=spikes, chunks=(50_000,))
        file["units/spike_times"].attrs.update(attrs, object_id="9")
        file["units/spike_times_index"].attrs["target"] = file["units/spike_times"].ref
    options = {"stimulus_column": "image", "window": (0.0, 0.5), "units_where": {"good": True}}
    with Counted(path) as stream:
        streamed = load_nwb(stream, **options)
        assert stream.sent < 200_000 * 8 + 600_000
    whole = load_nwb(path, **options)
    np.testing.assert_array_equal(streamed, whole)
    assert streamed.attrs["source"] == whole.attrs["source"] == "session.nwb"


def test_a_stream_that_is_not_nwb():
    with pytest.raises(ValueError, match="the stream cannot be read as NWB: .*signature not found"):
        load_presentations(io.BytesIO(b"<html>" * 99), stimulus_column="image")


def listed_without_warning(write_nwb, labels, onsets=None):
    path = write_nwb(labels, np.arange(1.0, len(labels) + 1) if onsets is None else onsets, [])
    return load_presentations(path, stimulus_column="image").sizes["presentation"] == len(labels)


@pytest.mark.parametrize(
    ("onsets", "message"),
    [
        ([3.0, 3.0], "2 of 2 presentations in table 'trials' have the onset 3 s; check the onsets"),
        ([0.0] * 5, "5 of 5 presentations in table 'trials' have the onset 0 s"),
        ([0.0, 1.0, 0.0, 2.0, 0.0, 3.0], "3 of 6 presentations in table 'trials' have the onset 0 s"),
    ],
)
def test_onsets_that_were_never_written_are_named(write_nwb, onsets, message):
    path = write_nwb([f"im{i}" for i in range(len(onsets))], onsets, [])
    with pytest.warns(UserWarning, match=message):
        load_presentations(path, stimulus_column="image")


def test_images_shown_together_pass(write_nwb):
    assert listed_without_warning(write_nwb, list("abcdef"), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    assert listed_without_warning(write_nwb, ["a"], [1.0])


def test_a_warning_names_a_blank_that_was_not_named(write_nwb):
    labels = ["grey"] * 60 + ["a", "b", "c"] * 3
    path = write_nwb(labels, np.arange(1.0, len(labels) + 1), [])
    message = r"'grey' was presented 60 times in table 'trials', the others 3 times .median.; if it is a blank, name"
    with pytest.warns(UserWarning, match=message):
        load_presentations(path, stimulus_column="image")
    assert load_presentations(path, stimulus_column="image", blanks="grey").attrs["n_blanks"] == 60


@pytest.mark.parametrize(
    "labels",
    [
        ["a"] * 59 + ["b", "c", "d"] * 3,  # fewer than twenty times the others
        ["a"] * 40 + ["b"] * 40 + ["c"] * 40 + [f"d{i}" for i in range(30)],  # test images, repeated by design
        ["a"] * 40,
    ],
)
def test_stimuli_that_are_repeated_by_design_pass(write_nwb, labels):
    assert listed_without_warning(write_nwb, labels)


def rewritten(mouse, path, values):
    def damage(file):
        attrs = dict(file[path].attrs)
        del file[path]
        file[path] = values
        file[path].attrs.update(attrs)

    return mouse.damaged(damage)


def test_onsets_as_clock_text_name_table_and_column(mouse):
    text = np.array([f"00:00:{onset:06.3f}" for onset in mouse.onsets], h5py.string_dtype())
    column = f"intervals/{mouse.table}/start_time"
    message = (
        f"column 'start_time' of table '{mouse.table}' must contain numbers of seconds, got .* such as '00:00:01.000'"
    )
    refused(message, rewritten(mouse, column, text), presentations=mouse.table, stimulus_column="frame")


def test_onsets_that_are_numbers_in_text_are_read(mouse):
    text = np.array([str(onset) for onset in mouse.onsets], h5py.string_dtype())
    shown = load_presentations(
        rewritten(mouse, f"intervals/{mouse.table}/start_time", text).path,
        presentations=mouse.table,
        stimulus_column="frame",
    )
    np.testing.assert_array_equal(shown.onset, mouse.onsets)


def test_timestamps_of_an_index_that_decrease_are_named(mouse):
    times = mouse.onsets.copy()
    times[[4, 9]] = times[[9, 4]]
    times[20] = np.nan
    damaged = rewritten(mouse, "stimulus/presentation/shown/timestamps", times)
    with pytest.warns(
        UserWarning, match="timestamps of index_series 'shown' decrease 2 times; each index was used with"
    ):
        shown = load_presentations(damaged.path, **SHOWN)
    assert shown.attrs["n_missing"] == 1
    assert shown.onset.notnull().all()
