"""The same planted responses come back from every form in which people have them."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper import as_responses, average_repetitions, load_images, top_stimuli
from neurosuper.responses import check_responses

STIMULI, UNITS, AREAS = ["owl", "cat", "bat", "dog"], ["u7", "u3", "u5"], ["V1", "V4", "V1"]
VALUES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [10.0, 11.0, 12.0]])
LABELS = {"stimuli": STIMULI, "units": UNITS, "area": AREAS}


@pytest.fixture(scope="module")
def planted():
    coords = {"stimulus": STIMULI, "unit": UNITS, "area": ("unit", AREAS)}
    return xr.DataArray(VALUES, coords, ("stimulus", "unit"), name="response", attrs={"units": "spikes/s"})


def frame(**options):
    return pd.DataFrame(VALUES, **options)


def assembly(*, level="stimulus_id"):
    """A NeuroidAssembly of Brain-Score in memory: both dims have a MultiIndex, and there is one time bin."""
    presentation = {level: STIMULI, "object_name": list("abcd")}
    coords = {name: ("presentation", values) for name, values in presentation.items()}
    coords |= {"neuroid_id": ("neuroid", UNITS), "region": ("neuroid", AREAS)}
    coords |= {"time_bin_start": ("time_bin", [70]), "time_bin_end": ("time_bin", [170])}
    array = xr.DataArray(VALUES.T[:, :, None], coords, ("neuroid", "presentation", "time_bin"))
    indexes = {"presentation": list(presentation), "neuroid": ["neuroid_id", "region"]}
    return array.set_index(indexes | {"time_bin": ["time_bin_start", "time_bin_end"]})


FORMS = {
    "numpy": lambda: as_responses(VALUES, **LABELS),
    "numpy, transposed": lambda: as_responses(VALUES.T, **LABELS),
    "nested lists": lambda: as_responses(VALUES.tolist(), **LABELS),
    "float32": lambda: as_responses(VALUES.astype(np.float32), **LABELS),
    "tensor with a gradient": lambda: as_responses(torch.tensor(VALUES, requires_grad=True), **LABELS),
    "bfloat16": lambda: as_responses(torch.tensor(VALUES, dtype=torch.bfloat16), **LABELS),
    "labels in a generator": lambda: as_responses(VALUES, stimuli=(s for s in STIMULI), units=UNITS, area=AREAS),
    "dims of unknown names, labels in a list": lambda: as_responses(xr.DataArray(VALUES.T, dims=("y", "x")), **LABELS),
    "one dim of unknown name": lambda: as_responses(xr.DataArray(VALUES, dims=("x", "neuron")), **LABELS),
    "labels in arrays": lambda: as_responses(VALUES, stimuli=np.array(STIMULI), units=pd.Series(UNITS), area=AREAS),
    "dask": lambda: as_responses(da.from_array(VALUES, chunks=2), **LABELS),
    "masked array without a mask": lambda: as_responses(np.ma.array(VALUES), **LABELS),
    "table": lambda: as_responses(frame(index=STIMULI, columns=UNITS), area=AREAS),
    "table with a column of labels": lambda: as_responses(
        frame(columns=UNITS).assign(name=STIMULI), stimuli="name", area=AREAS
    ),
    "transposed table": lambda: as_responses(
        frame(index=STIMULI, columns=UNITS).T, dims=("unit", "stimulus"), area=AREAS
    ),
    "nullable table": lambda: as_responses(frame(index=STIMULI, columns=UNITS).astype("Float64"), area=AREAS),
    "table with levels of columns": lambda: as_responses(
        frame(index=STIMULI, columns=pd.MultiIndex.from_arrays([AREAS, UNITS], names=["area", "neuron"]))
    ),
    "DataArray": lambda: as_responses(
        xr.DataArray(VALUES.T, {"neuron": UNITS, "image": STIMULI, "area": ("neuron", AREAS)}, ("neuron", "image"))
    ),
    "DataArray of unusual names": lambda: as_responses(
        xr.DataArray(
            VALUES, {"which": ("x", STIMULI), "label": ("y", UNITS), "area": ("y", AREAS)}, ("x", "y"), name="anything"
        ),
        stimuli="which",
        units="label",
    ),
    "its own result": lambda: as_responses(as_responses(VALUES, **LABELS)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_planted_responses(form, planted):
    responses = form()
    xr.testing.assert_equal(responses.astype(float).compute(), planted)
    assert responses.attrs["units"] == "a.u."
    assert check_responses(responses).name == "response"


@pytest.mark.parametrize("level", ["stimulus_id", "image_id"])
def test_an_assembly_in_memory_is_read_by_its_coords(level, planted):
    responses = average_repetitions(as_responses(assembly(level=level)))
    expected = planted.assign_coords(object_name=("stimulus", list("abcd")), n_repetitions=("stimulus", [1] * 4))
    xr.testing.assert_equal(responses, expected.sortby("stimulus"))


def test_repetitions_of_an_assembly_are_arranged_by_stimulus():
    whole = xr.concat([assembly(), 2 * assembly().isel(presentation=[1, 3])], "presentation")
    responses = as_responses(whole)
    assert responses.sel(stimulus="cat", unit="u7").values.tolist() == [4, 8]
    assert responses.sel(stimulus="owl", unit="u5").values.tolist() == pytest.approx([3, np.nan], nan_ok=True)


def test_dask_stays_lazy_and_data_types_are_kept():
    lazy = as_responses(da.from_array(VALUES.astype(np.int16), chunks=2), **LABELS)
    assert lazy.chunks is not None
    assert lazy.dtype == np.int16
    assert as_responses(VALUES.astype(np.float32), **LABELS).dtype == np.float32


@pytest.mark.parametrize(
    "labels", [[3, 12, 7, 1], [3.0, 12.0, 7.0, 1.0], ["3", "12", "7", "1"], torch.tensor([3, 12, 7, 1])]
)
def test_numbers_become_labels_by_one_rule(labels):
    assert as_responses(VALUES, stimuli=labels).stimulus.values.tolist() == ["3", "12", "7", "1"]


def test_numbers_in_single_precision_become_the_labels_that_they_show():
    labels = np.array([0.1, 2.5, 3.0, 12.1], np.float32)
    for given_labels in (labels, pd.Series(labels), torch.tensor(labels)):
        assert as_responses(VALUES, stimuli=given_labels).stimulus.values.tolist() == ["0.1", "2.5", "3", "12.1"]


def test_labels_keep_their_zeros_and_lose_their_padding():
    assert as_responses(VALUES, stimuli=["007", "012 ", "1", "2"]).stimulus.values.tolist() == ["007", "012", "1", "2"]


def test_numpy_strings_of_variable_length_are_labels_like_others(rng):
    labels = np.array([f"s{i:03d}" for i in range(60)], dtype=np.dtypes.StringDType())
    responses = as_responses(rng.random((60, 4)), stimuli=labels)
    assert top_stimuli(responses, top=3).sizes["unit"] == 4


def test_labels_and_content_of_images_are_taken(rng):
    images = load_images(rng.integers(0, 255, (4, 6, 6, 3), dtype=np.uint8)).assign_coords(stimulus=STIMULI)
    responses = as_responses(VALUES, stimuli=images)
    assert responses.stimulus.values.tolist() == STIMULI
    assert responses.content.values.tolist() == images.content.values.tolist()


def test_unit_of_measurement_and_attrs_of_an_array_are_kept(planted):
    assert as_responses(planted).attrs == {"units": "spikes/s"}
    assert as_responses(planted, measured_in="a.u.").attrs == {"units": "a.u."}


def test_repetitions_on_an_axis_of_their_own():
    values = np.arange(24.0).reshape(4, 2, 3)
    for array, dims in (
        (values, None),
        (values.transpose(2, 0, 1), None),
        (values, ("stimulus", "repetition", "unit")),
    ):
        responses = as_responses(array, dims, stimuli=STIMULI, units=UNITS)
        np.testing.assert_array_equal(responses, values)
    named = xr.DataArray(values, {"image": STIMULI, "neuron": UNITS}, ("image", "trial", "neuron"))
    np.testing.assert_array_equal(as_responses(named), values)


WRONG = {
    "a path": (lambda: "rates.npy", {}, TypeError, "load_array"),
    "a dict": (lambda: {"u": [0.1]}, {}, TypeError, "count_spikes"),
    "a Dataset": (lambda: xr.Dataset({"rates": ("x", [1.0])}), {}, TypeError, r"values\['rates'\]"),
    "a Series": (lambda: pd.Series([1.0]), {}, TypeError, "unstack"),
    "text": (lambda: VALUES.astype(str), LABELS, TypeError, "must be real numbers"),
    "complex numbers": (lambda: VALUES * 1j, LABELS, TypeError, "must be real numbers"),
    "ragged lists": (
        lambda: [[1.0, 2.0], [3.0]],
        {"stimuli": ["a", "b"]},
        ValueError,
        "rows must have the same length",
    ),
    "one axis": (lambda: VALUES[:, 0], {"stimuli": STIMULI}, ValueError, r"pass values\[:, None\]"),
    "no labels": (lambda: VALUES, {}, ValueError, "no stimulus labels; pass stimuli= "),
    "no labels of stimuli": (lambda: VALUES, {"units": UNITS}, ValueError, "no stimulus labels; pass stimuli= "),
    "a square": (
        lambda: VALUES[:3],
        {"stimuli": STIMULI[:3]},
        ValueError,
        "pass dims=.'stimulus', 'unit'. or dims=.'unit'",
    ),
    "a wrong number": (
        lambda: VALUES,
        {"stimuli": STIMULI[:2]},
        ValueError,
        "2 labels of stimulus were given: no order",
    ),
    "repeated labels": (
        lambda: VALUES,
        {"stimuli": list("abca")},
        ValueError,
        "duplicate stimulus labels 'a'.*trials=",
    ),
    "missing labels": (lambda: VALUES, {"stimuli": ["a", None, "c", "d"]}, ValueError, "1 of 4 labels are missing"),
    "a unit of measurement": (
        lambda: VALUES,
        LABELS | {"units": "spikes/s"},
        ValueError,
        "measured_in= is the unit of",
    ),
    "a wrong coord": (lambda: VALUES, LABELS | {"area": ["V1"]}, ValueError, r"shape \(1,\) were given for 'area'"),
    "an unknown name": (
        lambda: VALUES,
        LABELS | {"stimuli": "image_id"},
        ValueError,
        "neither a dim or coord of values",
    ),
    "NaN": (
        lambda: np.where(VALUES == 5, np.nan, VALUES),
        LABELS,
        ValueError,
        "1 NaN or infinite values, in unit 'u3'",
    ),
    "masked values": (lambda: np.ma.array(VALUES, mask=VALUES == 5), LABELS, ValueError, "in unit 'u3'"),
    "time": (
        lambda: xr.DataArray(np.ones((4, 3, 2)), dims=("image", "neuron", "time")),
        {"stimuli": STIMULI},
        ValueError,
        r"extra dims \['time'\]; select or average them first, such as by .mean\('time'\)",
    ),
    "unusual dims": (
        lambda: xr.DataArray(VALUES, dims=("x", "y")),
        {},
        ValueError,
        "pass stimuli= .* the name of a dim",
    ),
    "trials without labels": (
        lambda: xr.DataArray(VALUES, dims=("presentation", "neuroid")),
        {},
        ValueError,
        "has no coord along 'presentation'; .* or trials= the label of each row",
    ),
    "nothing": (lambda: np.empty((0, 3)), {"stimuli": []}, ValueError, r"values have shape \(0, 3\), which is empty"),
    "a coord called like a dim": (
        lambda: VALUES,
        LABELS | {"stimulus": UNITS},
        ValueError,
        "cannot be called 'stimulus'",
    ),
    "labels of time": (
        lambda: xr.DataArray(VALUES, dims=("time", "neuron")),
        {"stimuli": STIMULI},
        ValueError,
        "pass stimuli= .* the name of a dim",
    ),
    "two labels": (
        lambda: xr.DataArray(
            VALUES,
            {"image_id": ("presentation", STIMULI), "filename": ("presentation", STIMULI)},
            ("presentation", "unit"),
        ),
        {},
        ValueError,
        "coords 'image_id', 'filename' along 'presentation'; pass stimuli=",
    ),
    "a table without labels": (lambda: frame(columns=UNITS), {}, ValueError, "have no stimulus labels; pass stimuli="),
    "a table of text": (
        lambda: frame(columns=UNITS, index=STIMULI).assign(kind="x"),
        {},
        ValueError,
        "column 'kind' of values is not numbers; pass stimuli= or trials=",
    ),
    "a long table": (
        lambda: pd.DataFrame({"image": ["a", "a"], "unit": [1, 2], "rate": [0.1, 0.2]}),
        {"trials": "image"},
        ValueError,
        "as if each row were one response of one unit; .*pivot_table",
    ),
    "levels without a name": (
        lambda: frame(index=STIMULI, columns=pd.MultiIndex.from_arrays([AREAS, UNITS])),
        {},
        ValueError,
        "name all of them, and pass units=",
    ),
    "a tensor without values": (lambda: torch.empty(4, 3, device="meta"), LABELS, TypeError, "has no values: load"),
    "sparse": (lambda: torch.eye(3).to_sparse(), {}, TypeError, "make it dense"),
}


@pytest.mark.parametrize(("make", "options", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_is_ambiguous_or_no_response_is_refused_in_one_line(make, options, error, message):
    with pytest.raises(error, match=message) as raised:
        as_responses(make(), **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda r: r.values,
        lambda r: r.rename(unit="neuron"),
        lambda r: r.drop_vars("stimulus"),
        lambda r: r.assign_coords(stimulus=range(4)),
        lambda r: r.expand_dims("time"),
        lambda r: r.astype(str),
        lambda r: r.assign_coords(stimulus=list("aabc")),
        lambda r: r.drop_vars(["unit", "area"]).assign_coords(
            xr.Coordinates.from_pandas_multiindex(
                pd.MultiIndex.from_arrays([UNITS, AREAS], names=["n", "area"]), "unit"
            )
        ),
    ],
)
def test_refusals_of_other_functions_name_the_door(wrong, planted):
    with pytest.raises((TypeError, ValueError), match=r"neurosuper\.as_responses\(values"):
        check_responses(wrong(planted))


# Trials


def arranged_by_loop(values, labels):
    """Return {stimulus: list of rows} in the order of the rows."""
    rows = {}
    for label, row in zip(labels, values, strict=True):
        rows.setdefault(label, []).append(row)
    return rows


@given(labels=st.lists(st.sampled_from(["1", "2", "10", "011"]), min_size=3, max_size=25), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=12)
def test_trials_in_any_order_with_any_repeats_equal_a_loop(labels, seed):
    if len(set(labels)) < 2:
        labels = [*labels, "2", "10"]
    values = np.random.default_rng(seed).random((len(labels), 2))
    lazy = da.from_array(values, chunks=(3, 1))
    columns = pd.DataFrame({"image": labels, "length": [len(label) for label in labels], "time": range(len(labels))})
    for responses in (
        as_responses(values, ("trial", "unit"), trials=labels),
        as_responses(lazy, ("trial", "unit"), trials=labels).compute(),
        as_responses(values, ("trial", "unit"), trials=columns, stimuli="image"),
        as_responses(pd.concat([columns, pd.DataFrame(values)], axis=1), trials="image", units=[0, 1]),
        as_responses(
            xr.DataArray(values, {"image_id": ("presentation", labels)}, ("presentation", "neuroid")),
        ),
    ):
        expected = arranged_by_loop(values, labels)
        assert set(responses.stimulus.values) == set(expected)
        assert responses.stimulus.values.tolist() == sorted(expected, key=float)
        for stimulus, rows in expected.items():
            own = responses.sel(stimulus=stimulus).values
            np.testing.assert_array_equal(own[: len(rows)], rows)
            assert np.isnan(own[len(rows) :]).all()
        if "length" in responses.coords:
            assert responses["length"].values.tolist() == [len(s) for s in responses.stimulus.values]
        assert "time" not in responses.coords or len(set(labels)) == len(labels)


@given(order=st.permutations(range(8)))
@settings(deadline=None, max_examples=8)
def test_a_permutation_of_trials_changes_only_the_order_of_repetitions(order):
    labels, values = np.array(list("abacabad")), np.random.default_rng(0).random((8, 3))
    one, other = (as_responses(values[rows], trials=labels[rows]) for rows in (np.arange(8), np.array(order)))
    xr.testing.assert_allclose(average_repetitions(one), average_repetitions(other))
    np.testing.assert_array_equal(np.sort(one, axis=1), np.sort(other, axis=1))


def test_units_may_be_the_first_axis_of_trials():
    labels, values = list("abab"), VALUES[:, :3]
    xr.testing.assert_identical(as_responses(values.T, trials=labels), as_responses(values, trials=labels))


def test_a_table_of_trials_beside_a_table_of_responses_decides():
    table = pd.DataFrame(VALUES[:, :2], columns=["u", "v"]).assign(image=list("zzzz"))
    trials = pd.DataFrame({"image": list("abab"), "size": [1, 2, 1, 2]})
    responses = as_responses(table, trials=trials, stimuli="image", units=["u", "v"])
    assert responses.stimulus.values.tolist() == ["a", "b"]
    assert responses["size"].values.tolist() == [1, 2]


def test_lazy_trials_stay_lazy():
    assert as_responses(da.from_array(VALUES, chunks=2), trials=list("abab")).chunks is not None


def test_integers_of_trials_become_floats_that_hold_them():
    large = np.array([[2**24 + 1], [3], [4]], np.int32)
    assert as_responses(large, trials=list("aab")).sel(stimulus="a").values.ravel().tolist() == [2**24 + 1, 3]
    assert as_responses(large.astype(np.int16), trials=list("aab")).dtype == np.float32


def test_a_table_of_trials_in_a_file_keeps_the_zeros_of_labels(tmp_path):
    pd.DataFrame({"image": ["007", "012", "007"], "size": [1, 2, 1]}).to_csv(tmp_path / "trials.csv", index=False)
    responses = as_responses(VALUES[:3, :2], trials=tmp_path / "trials.csv")
    assert responses.stimulus.values.tolist() == ["007", "012"]
    assert responses["size"].values.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("trials", "options", "message"),
    [
        (list("ababa"), {}, "5 labels of trial were given: no order of axes fits"),
        (list("aba"), {"dims": ("trial", "unit")}, "has length 4 along 'trial', but 3 labels were given"),
        (["a", None, "b", "b"], {}, "1 of 4 labels are missing, the first in row 1"),
        (pd.DataFrame({"a": list("xyxy"), "b": 1}), {}, "columns 'a', 'b'; pass stimuli= the one"),
        (pd.DataFrame({"a": list("xyxy"), "b": 1}), {"stimuli": "c"}, "must name a column of trials, got 'c'"),
        (
            pd.DataFrame({"a": list("xyxy"), "unit": 1}),
            {"stimuli": "a"},
            "a column 'unit', which is a dim of responses",
        ),
        ("labels.csv", {}, "trials='labels.csv' is no file"),
        (list("abab"), {"stimuli": STIMULI}, "stimuli= may only name a column of trials"),
        (list("abab"), {"dims": ("stimulus", "unit")}, "dims must name each axis 'trial' or 'unit'"),
    ],
)
def test_trials_that_do_not_fit_are_refused_in_one_line(trials, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        as_responses(VALUES, trials=trials, **options)
    assert "\n" not in str(raised.value)
