"""Real files break the rules: each known quirk is made here, and gives right numbers or one clear line."""

import json
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper import average_repetitions, load_nwb
from neurosuper.loaders import load_presentations

SCENES = {"presentations": "natural_scenes_presentations", "stimulus_column": "frame", "blanks": [-1]}
SHOWN = {"presentations": None, "index_series": "shown", "blanks": [-1]}


def planted(mouse, counts=None, labels="{}"):
    """Return the planted mean count of each image (stimulus, unit)."""
    counts = mouse.counts if counts is None else counts
    images = np.unique(mouse.indices[mouse.indices >= 0])
    means = np.array([counts[mouse.indices == image].mean(axis=0) for image in images])
    return xr.DataArray(means, dims=("stimulus", "unit"), coords={"stimulus": [labels.format(i) for i in images]})


def check_counts(mouse, reader="h5py: ", labels="{}", **options):
    """Return loaded counts, after comparing them with the planted counts."""
    counts = load_nwb(mouse.path, window=mouse.window, measure="count", **options)
    assert counts.attrs["reader"].startswith(reader)
    assert "\n" not in counts.attrs["reader"]
    expected = planted(mouse, labels=labels).sel(stimulus=counts.stimulus)
    np.testing.assert_allclose(average_repetitions(counts), expected, rtol=1e-6)
    return counts


def refused(match, path, **options):
    with pytest.raises(ValueError, match=match) as raised:
        load_nwb(path, **{"window": (0.0, 0.25)} | options)
    assert "\n" not in str(raised.value)


def test_the_undamaged_session_is_read_by_pynwb(mouse):
    by_column = check_counts(mouse, "pynwb", **SCENES)
    by_series = check_counts(mouse, "pynwb", labels="scene{}", **SHOWN)
    assert by_column.stimulus.values.tolist() == [str(i) for i in range(12)]
    assert by_series.attrs["n_blanks"] == by_column.attrs["n_blanks"] == 12


@pytest.mark.parametrize(("dtype", "wrapped"), [(np.uint64, 2**64 - 1), (np.uint32, 2**32 - 1), (np.uint16, 65535)])
def test_blank_as_unsigned_wrap(mouse, dtype, wrapped):
    def damage(file):
        values = mouse.indices.astype(np.int64)
        series = file["stimulus/presentation/shown"]
        attrs = dict(series["data"].attrs)
        del series["data"]
        series["data"] = np.where(values < 0, wrapped, values.astype(np.uint64)).astype(dtype)
        series["data"].attrs.update(attrs)

    counts = check_counts(mouse.damaged(damage), "pynwb", labels="scene{}", **SHOWN)
    assert counts.attrs["n_blanks"] == 12


def test_blank_wrapped_to_16_bit_and_widened(mouse):
    def damage(file):
        data = file["stimulus/presentation/shown/data"]
        data[...] = np.where(mouse.indices < 0, 65535, mouse.indices)

    assert check_counts(mouse.damaged(damage), "pynwb", labels="scene{}", **SHOWN).attrs["n_blanks"] == 12


def test_blank_named_by_its_image(mouse):
    counts = load_nwb(mouse.path, window=mouse.window, **SHOWN | {"blanks": [-1, "scene3", 4]})
    assert not {"scene3", "scene4"} & set(counts.stimulus.values)
    assert counts.attrs["n_blanks"] == 20


def test_blank_not_named_is_an_index_without_an_image(mouse):
    refused(
        "index_series 'shown' of mouse.nwb has the index 4294967295, but indices of its template 'scenes' go from 0 "
        "to 11; if it is a blank, add it to blanks",
        mouse.path,
        **SHOWN | {"blanks": []},
    )


def test_index_as_large_as_the_number_of_images(mouse):
    def damage(file):
        file["stimulus/presentation/shown/data"][5] = 12

    refused(
        "has the index 12, but indices of its template 'scenes' go from 0 to 11", mouse.damaged(damage).path, **SHOWN
    )


def unlink(file):
    del file["stimulus/presentation/shown/indexed_images"]


def test_indexseries_link_empty(mouse):
    counts = check_counts(mouse.damaged(unlink), labels="scene{}", **SHOWN)
    assert "IndexSeries" in counts.attrs["reader"]


def test_indexseries_link_empty_and_templates_too_small_are_left_aside(mouse):
    def damage(file):
        unlink(file)
        small = file.create_group("stimulus/templates/gratings")
        small.attrs.update(neurodata_type="ImageSeries", namespace="core")
        small["data"] = np.zeros((3, 5, 7), np.uint8)

    check_counts(mouse.damaged(damage), labels="scene{}", **SHOWN)


def test_indexseries_link_empty_and_two_templates_fit(mouse):
    def damage(file):
        unlink(file)
        file.copy("stimulus/templates/scenes", "stimulus/templates/more")

    refused(
        "index_series 'shown' of damaged.*nwb does not link to its images, and 2 of the templates 'more', "
        "'scenes' have more than 11 images; name the stimuli by a stimulus_column",
        mouse.damaged(damage).path,
        **SHOWN,
    )


def delete_template(file):
    del file["stimulus/templates/scenes"]


def externalise_template(file):
    delete_template(file)
    file["stimulus/templates/scenes"] = h5py.ExternalLink("gone.h5", "/scenes")


@pytest.mark.parametrize("damage", [delete_template, externalise_template])
def test_template_deleted_or_external(mouse, damage):
    damaged = mouse.damaged(damage)
    check_counts(damaged, **SCENES, allow_external=True)
    with pytest.warns(
        UserWarning, match="images of index_series 'shown' are not in damaged.*; stimuli are named by their"
    ):
        check_counts(damaged, **SHOWN, allow_external=True)


def test_electrodes_removed(mouse):
    def damage(file):
        del file["general/extracellular_ephys/electrodes"]

    damaged = mouse.damaged(damage)
    check_counts(damaged, "pynwb", **SCENES)
    refused(
        "no area_column 'location': .* the table 'electrodes' .* is missing",
        damaged.path,
        **SCENES,
        area_column="location",
    )


def test_electrodes_removed_that_the_units_refer_to(write_nwb, tmp_path):
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1], "electrodes": [0]}])
    with h5py.File(path, "r+") as file:
        del file["general/extracellular_ephys/electrodes"]
    options = {"stimulus_column": "image", "window": (0.0, 0.25)}
    counts = load_nwb(path, **options, measure="count")
    assert (
        counts.attrs["reader"] == "h5py: TypeError: column 'electrodes' of the units refers to a table that is missing"
    )
    assert counts.values.ravel().tolist() == [1.0, 0.0]
    refused(
        "the table 'electrodes' that it refers to is missing from the file", path, **options, area_column="location"
    )


def test_extension_not_cached(mouse):
    def damage(file):
        group = file["processing/running"].create_group("notes")
        group.attrs.update(namespace="ndx-lab", neurodata_type="LabNotes", object_id="1")

    counts = check_counts(mouse.damaged(damage), **SCENES)
    assert (
        counts.attrs["reader"]
        == "h5py: KeyError: 'ndx-lab' not a namespace; install the package ndx-lab to read its types"
    )


NAMESPACE = {
    "name": "ndx-lab",
    "version": "0.1.0",
    "doc": "notes of a lab",
    "author": "lab",
    "contact": "lab",
    "schema": [{"namespace": "core", "neurodata_types": ["NWBContainer"]}, {"source": "lab"}],
}
NOTES = {"neurodata_type_def": "LabNotes", "neurodata_type_inc": "NWBContainer", "doc": "notes"}


def test_extension_that_is_cached_needs_no_package(mouse):
    def damage(file):
        group = file["processing/running"].create_group("notes")
        group.attrs.update(namespace="ndx-lab", neurodata_type="LabNotes", object_id="1")
        cached = file["specifications"].create_group("ndx-lab/0.1.0")
        cached["namespace"] = json.dumps({"namespaces": [NAMESPACE]})
        cached["lab"] = json.dumps({"groups": [NOTES]})

    check_counts(mouse.damaged(damage), "pynwb", **SCENES)


def test_old_hdmf_common_index_and_electrodes_by_region(write_nwb):
    units = [{"spike_times": [1.1], "electrodes": [2, 1]}, {"spike_times": [2.1], "electrodes": [0]}]
    path = write_nwb("ab", [1.0, 2.0], units)
    options = {"stimulus_column": "image", "window": (0.0, 0.25), "area_column": "location"}
    before = load_nwb(path, **options)
    with h5py.File(path, "r+") as file:
        file["units/electrodes_index"].attrs["neurodata_type"] = "Index"
    after = load_nwb(path, **options)
    assert after.attrs["reader"].startswith("h5py: ")
    assert after.area.values.tolist() == ["V1/V4", "V1"]
    xr.testing.assert_identical(before.drop_attrs(), after.drop_attrs())


def test_old_hdmf_common_index(mouse):
    def damage(file):
        file["units/spike_times_index"].attrs["neurodata_type"] = "Index"

    counts = check_counts(mouse.damaged(damage), **SCENES, area_column="location")
    assert "No specification for 'Index'" in counts.attrs["reader"]
    assert counts.area.values.tolist() == ["VISp", "VISl", "VISp", "VISl"]


def test_two_row_timestamps_of_running_speed(mouse):
    def damage(file):
        group = file["processing/running/running_speed"]
        del group["timestamps"]
        group["timestamps"] = np.zeros((2, 9))
        group["timestamps"].attrs.update(unit="seconds", interval=1)

    damaged = mouse.damaged(damage)
    assert "timestamps" in check_counts(damaged, **SCENES).attrs["reader"]
    refused(
        "the timestamps of time series 'running_speed' .* not one per frame",
        damaged.path,
        **SCENES,
        series="running_speed",
    )


def test_indexseries_constructerror(mouse):
    def damage(file):
        del file["stimulus/presentation/shown/timestamps"]

    damaged = mouse.damaged(damage)
    check_counts(damaged, **SCENES)
    check_counts(damaged, labels="scene{}", **SHOWN | {"presentations": mouse.table})
    refused("time series 'shown' has neither timestamps nor a rate", damaged.path, **SHOWN)


HTML = b"<!DOCTYPE html><html><body>404</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (HTML, "a web page"), (LFS, "git-lfs pointer"), (b"nonsense" * 99, "does not start like")],
)
def test_placeholders(tmp_path, content, message):
    (tmp_path / "a.nwb").write_bytes(content)
    refused(rf"a\.nwb cannot be read as NWB: .*{message}.* fetch it again", tmp_path / "a.nwb", **SCENES)


def test_truncated(mouse, tmp_path):
    (tmp_path / "a.nwb").write_bytes(mouse.path.read_bytes()[:-5000])
    refused(
        r"a\.nwb cannot be read as NWB: it is cut short or damaged .*; fetch it again", tmp_path / "a.nwb", **SCENES
    )


def test_nwb_1x(tmp_path):
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
        file["stimulus/presentation/x/data"] = [1, 2]
    refused(
        r"old\.nwb cannot be read as NWB 2: it is NWB-1\.0\.6, .* fetch a newer release", tmp_path / "old.nwb", **SCENES
    )


def test_columns_are_read_by_name_for_any_order_of_colnames(mouse):
    def damage(file):
        units = file["units"]
        units.attrs["colnames"] = sorted(units.attrs["colnames"], reverse=True)

    options = SCENES | {"area_column": "location", "units_where": {"quality": "good"}}
    counts = [load_nwb(each.path, window=mouse.window, **options) for each in (mouse, mouse.damaged(damage))]
    assert counts[0].unit.values.tolist() == ["950", "951", "953"]
    xr.testing.assert_equal(*counts)


def test_colnames_of_one_column_as_text(mouse):
    """As MatNWB wrote it."""

    def damage(file):
        del file["units/quality"], file["units/peak_channel_id"]
        file["units"].attrs["colnames"] = "spike_times"

    check_counts(mouse.damaged(damage), **SCENES)


def test_units_of_000021_name_their_electrode_by_the_peak_channel(mouse):
    named = {"area_column": "location", "area_map": {"VISp": "V1"}, "units_where": {"location": "VISp"}}
    counts = load_nwb(mouse.path, window=mouse.window, **SCENES, **named)
    assert counts.unit.values.tolist() == ["950", "952"]
    assert counts.area.values.tolist() == ["V1", "V1"]


def test_silent_units_are_kept(write_nwb):
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": []}, {"spike_times": [1.1]}, {"spike_times": []}])
    counts = load_nwb(path, stimulus_column="image", window=(0.0, 0.25))
    assert counts.n_spikes.values.tolist() == [0, 1, 0]
    assert not counts.sel(unit=["0", "2"]).any()


ONSETS = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("intervals", "seen"),
    [
        ([[0.0, 9.0]], [1, 1, 1, 1]),
        ([[1.0, 2.25], [2.25, 3.5]], [1, 1, 1, 0]),  # those that touch are one
        ([[2.0, 3.0], [1.5, 2.25]], [0, 1, 0, 0]),
        ([[1.0, 1.25], [2.01, 9.0]], [1, 0, 1, 1]),
        ([[1.0, 1.24]], [0, 0, 0, 0]),
    ],
)
def test_presentation_outside_obs_intervals(write_nwb, intervals, seen):
    units = [
        {"spike_times": [1.1, 2.1], "obs_intervals": np.array(intervals)},
        {"spike_times": ONSETS, "obs_intervals": np.array([[0.0, 99.0]])},
    ]
    rates = load_nwb(write_nwb("abcd", ONSETS, units), stimulus_column="image", window=(0.0, 0.25))
    assert rates.isel(unit=0, repetition=0).notnull().astype(int).values.tolist() == seen
    assert rates.isel(unit=1).notnull().all()
    assert rates.attrs["n_unobserved"] == 4 - sum(seen)


@pytest.mark.parametrize(
    ("invalid", "valid"),
    [
        ([], [1, 1, 1, 1]),
        ([(1.25, 2.0)], [1, 1, 1, 1]),  # half-open on both sides
        ([(1.2, 1.3)], [0, 1, 1, 1]),
        ([(3.1, 3.2), (0.0, 2.1)], [0, 0, 0, 1]),
        ([(0.0, 99.0), (3.1, 3.2)], [0, 0, 0, 0]),
    ],
)
def test_presentation_inside_invalid_times(write_nwb, invalid, valid):
    path = write_nwb("abcd", ONSETS, [{"spike_times": ONSETS}, {"spike_times": []}], invalid=invalid)
    rates = load_nwb(path, stimulus_column="image", window=(0.0, 0.25))
    for unit in rates.unit:
        assert rates.sel(unit=unit).isel(repetition=0).notnull().astype(int).values.tolist() == valid
    assert rates.attrs["n_invalid"] == 4 - sum(valid)


@pytest.mark.parametrize(("window", "valid"), [((0.5, 0.75), [0, 1, 1, 1]), ((-0.5, -0.25), [1, 0, 1, 1])])
def test_the_window_must_be_valid_not_the_onset(write_nwb, window, valid):
    path = write_nwb("abcd", ONSETS, [{"spike_times": np.arange(0.1, 5, 0.1)}], invalid=[(1.6, 1.7)])
    rates = load_nwb(path, stimulus_column="image", window=window)
    assert rates.isel(repetition=0, unit=0).notnull().values.tolist() == [bool(each) for each in valid]


def test_milliseconds_for_seconds_give_a_warning(mouse):
    with pytest.warns(UserWarning, match="no spike falls into any window .* window is in seconds"):
        load_nwb(mouse.path, window=(50, 250), **SCENES)


def test_a_deleted_table_of_rois_is_reported(mouse):
    def damage(file):
        del file["processing/ophys/ImageSegmentation"]

    refused(
        "the table of ROIs of time series 'DfOverF' .* is missing",
        mouse.damaged(damage).path,
        **SCENES,
        series="DfOverF",
    )


def test_both_readers_agree(mouse):
    damaged = mouse.damaged(delete_template)
    for options in ({}, {"series": "DfOverF", "area_column": "location"}):
        first, second = (
            load_nwb(each.path, window=mouse.window, **SCENES, **options).drop_attrs() for each in (mouse, damaged)
        )
        xr.testing.assert_identical(first, second)
    damaged = mouse.damaged(unlink)
    first, second = (load_presentations(each.path, **SHOWN) for each in (mouse, damaged))
    xr.testing.assert_equal(first, second)
    about = ("dataset", "session_start_time", "n_presentations", "n_blanks", "images")
    assert {name: first.attrs[name] for name in about} == {name: second.attrs[name] for name in about}


def test_an_index_that_does_not_cut_the_spikes(mouse):
    def damage(file):
        file["units/spike_times_index"][1] = 2**16 - 1

    refused(
        "column .spike_times_index. of table .units. falls from 65535 to .* at row 2",
        mouse.damaged(damage).path,
        **SCENES,
    )


def numbers_or_one_line(load):
    """Return the numbers of a loader, if it succeeds, and its message; an error must be one line."""
    numbers, message = None, ""
    try:
        numbers = load()
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    assert "\n" not in message
    return numbers, message


def test_units_that_lost_their_ids_are_not_renumbered(mouse):
    def damage(file):
        del file["units/id"]

    refused("table 'units' has lost the ids of its rows; .* fetch it again", mouse.damaged(damage).path, **SCENES)


WAYS = [SCENES, SHOWN, SCENES | {"series": "DfOverF", "area_column": "layer"}, SCENES | {"area_column": "location"}]
MAYHEM = {
    "delete": None,
    "number": 5,
    "text": "x",
    "texts": ["x", "y"],
    "nothing": np.array([]),
    "table": np.zeros((3, 2)),
    "nan": np.full(60, np.nan),
    "huge": np.full(4, 2**40),
}
NEVER_MEANT = ("delete", "nan", "huge")  # what no file could mean; another number or text may be another recording


def places(file):
    """List the objects of a file, and their attributes as (path, name)."""
    paths = []
    file.visit(lambda path: paths.append(path) if not path.startswith("specifications") else None)
    return [*paths, *((path, name) for path in paths for name in file[path].attrs)]


def wreak(file, place, value):
    if isinstance(place, tuple):
        attrs = file[place[0]].attrs
        del attrs[place[1]]
        if value is not None:
            attrs[place[1]] = value
        return
    del file[place]
    if value is not None:
        file[place] = value


@settings(max_examples=50, deadline=None, derandomize=True)  # tests/fuzz has more
@given(data=st.data(), way=st.sampled_from(WAYS), mayhem=st.sampled_from(list(MAYHEM)))
def test_objects_that_are_missing_or_of_another_kind_give_numbers_or_one_line(mouse, data, way, mayhem):
    with h5py.File(mouse.path) as file:
        place = data.draw(st.sampled_from(places(file)))
    damaged = mouse.damaged(lambda file: wreak(file, place, MAYHEM[mayhem]))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found, _ = numbers_or_one_line(lambda: load_nwb(damaged.path, window=mouse.window, **way))
    damaged.path.unlink()
    if found is not None and mayhem in NEVER_MEANT and not warned:
        right = load_nwb(mouse.path, window=mouse.window, **way)
        xr.testing.assert_identical(found.drop_attrs(), right.drop_attrs())


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_to_be_fetched_again(mouse, share):
    whole = mouse.path.read_bytes()
    path = mouse.path.with_name("cut.nwb")
    path.write_bytes(whole[: int(share * len(whole))])
    _, message = numbers_or_one_line(lambda: load_nwb(path, window=mouse.window, **SCENES))
    assert "cut.nwb cannot be read as NWB" in message
    assert "fetch it again" in message


@settings(max_examples=60, deadline=None, derandomize=True)
@given(place=st.integers(0, 95), byte=st.integers(0, 255))
def test_a_damaged_superblock_gives_numbers_or_one_line(mouse, place, byte):
    content = bytearray(mouse.path.read_bytes())
    content[place] = byte
    path = mouse.path.with_name("superblock.nwb")
    path.write_bytes(content)
    found, _ = numbers_or_one_line(lambda: load_nwb(path, window=mouse.window, **SCENES))
    if found is not None:
        right = load_nwb(mouse.path, window=mouse.window, **SCENES)
        xr.testing.assert_identical(found.drop_attrs(), right.drop_attrs())
