"""Labels are compared as one text, however a file pads or composes them."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neurosuper import (
    PCA,
    Color,
    KMeans,
    Precomputed,
    align,
    compare,
    interpretability_index,
    load_images,
    top_stimuli,
)
from neurosuper._labels import clean_label, match_file_names
from neurosuper.images import check_images
from neurosuper.responses import check_responses

TYPED, COMPOSED = "re\u0301sume\u0301", "r\u00e9sum\u00e9"  # a letter and an accent (macOS), and one character


@given(st.text(max_size=8), st.sampled_from(["", " ", "\0\0", "\t ", "\u00a0"]))
def test_clean_text_is_in_form_nfc_and_stays_as_it_is(text, padding):
    clean = clean_label(text)
    assert unicodedata.is_normalized("NFC", clean)
    assert clean_label(clean) == clean == clean_label(unicodedata.normalize("NFD", text) + padding)


@pytest.mark.parametrize("padded", [TYPED, f" {COMPOSED}", f"{COMPOSED}   ", f"{TYPED}\t"])
def test_labels_that_look_the_same_are_one_stimulus(padded, make_responses):
    brain = make_responses(np.eye(3), stimulus=["owl", padded, "cat"])
    net = make_responses(np.eye(3), stimulus=["cat", COMPOSED, "owl"])
    ours, theirs = align(brain, net)
    assert ours.stimulus.values.tolist() == theirs.stimulus.values.tolist() == ["owl", COMPOSED, "cat"]
    assert check_responses(brain).stimulus.values.tolist() == ["owl", COMPOSED, "cat"]


def test_attrs_and_other_coords_survive_cleaning(make_responses):
    padded = make_responses(np.eye(2), stimulus=["owl ", "cat"], area=("unit", ["V1", "V4"]))
    padded.stimulus.attrs["long_name"] = "photograph"
    clean = check_responses(padded)
    assert clean.stimulus.attrs == {"long_name": "photograph"}
    xr.testing.assert_identical(clean.area.drop_vars("unit"), padded.area.drop_vars("unit"))


def test_two_labels_that_are_one_text_are_refused_in_one_line(make_responses):
    for pair in ([TYPED, COMPOSED], ["owl", "owl "]):
        with pytest.raises(ValueError, match=r"stimulus labels '.*' and '.*', which differ only in padding") as caught:
            check_responses(make_responses(np.eye(2), stimulus=pair))
        assert "\n" not in str(caught.value)


def test_images_distances_and_finders_take_any_form(rng):
    pixels = rng.integers(0, 255, (3, 4, 4, 3), np.uint8)
    images = load_images(pixels).assign_coords(stimulus=[TYPED, "owl ", "cat"])
    assert check_images(images).stimulus.values.tolist() == [COMPOSED, "owl", "cat"]
    coords = {"stimulus": ["cat", "owl", TYPED], "other": [f"{COMPOSED} ", "cat", "owl"]}
    judged = xr.DataArray([[1, 0, 1], [1, 1, 0], [0, 1, 1]], dims=("stimulus", "other"), coords=coords)
    codes = xr.DataArray([[3.0], [2.0], [1.0]], dims=("stimulus", "unit"))
    codes = codes.assign_coords(stimulus=[COMPOSED, "owl", "cat"], unit=["a"])
    for metric in (Precomputed(judged), Color()):
        assert interpretability_index(codes, images, metric, top=2).size == 1
    assert category_of(load_images(pixels, category_from={"0": "x", "1 ": "y", "2": "z"})) == ["x", "y", "z"]


def category_of(images: xr.DataArray) -> list[str]:
    return images.category.values.tolist()


STRINGS = [lambda labels: np.array(labels, np.dtypes.StringDType()), lambda labels: pd.array(labels, dtype="string")]


@pytest.mark.parametrize("as_strings", [*STRINGS, lambda labels: np.array(labels, object)])
def test_labels_of_every_kind_of_string_are_taken_everywhere(as_strings, responses, images):
    strings = responses.drop_vars("stimulus").assign_coords(
        stimulus=("stimulus", as_strings(responses.stimulus.values.tolist()))
    )
    codes = KMeans(3, device="cpu").fit(strings).transform(strings)
    expected = KMeans(3, device="cpu").fit(responses).transform(responses)
    assert top_stimuli(codes, top=3).values.tolist() == top_stimuli(expected, top=3).values.tolist()
    assert top_stimuli(strings, top=3).values.tolist() == top_stimuli(responses, top=3).values.tolist()
    assert interpretability_index(codes, images, Color()).size == 3


EXTENSIONS = {
    "whole numbers, some missing": (pd.array([1, None, 3, 4], dtype="Int64"), [1, np.nan, 3, 4]),
    "whole numbers": (pd.array([1, 2, 3, 4], dtype="Int8"), [1, 2, 3, 4]),
    "floats, some missing": (pd.array([0.5, None, 3, 4], dtype="Float64"), [0.5, np.nan, 3, 4]),
    "truth values": (pd.array([True, False, True, True], dtype="boolean"), [True, False, True, True]),
    "truth values, some missing": (pd.array([True, None, False, True], dtype="boolean"), [1, np.nan, 0, 1]),
    "text, some missing": (pd.array(["V1", None, "V4", "é"], dtype="string"), ["V1", "", "V4", "é"]),
    "text of NumPy": (np.array(["V1", "V2", "V4", ""], np.dtypes.StringDType()), ["V1", "V2", "V4", ""]),
    "categories, some missing": (pd.Categorical(["V1", None, "V4", "V1"]), ["V1", "", "V4", "V1"]),
    "categories of numbers": (pd.Categorical([7, 2, 7, 5]), [7, 2, 7, 5]),
    "sparse numbers": (pd.arrays.SparseArray([0, 0, 2, 0]), [0, 0, 2, 0]),
    "months, some missing": (
        pd.PeriodIndex(["2024-01", "NaT", "2024-03", "2024-01"], freq="M"),
        ["2024-01", "", "2024-03", "2024-01"],
    ),
    "objects, some missing": (np.array([2, pd.NA, 4, 5], object), [2, np.nan, 4, 5]),
    "times with a time zone": (
        pd.DatetimeIndex(["2024-07-01 12:00", "NaT", "2024-01-01 00:30", "2024-01-02"], tz="Europe/Berlin"),
        np.array(["2024-07-01T10:00", "NaT", "2023-12-31T23:30", "2024-01-01T23:00"], "datetime64[ns]"),
    ),
}


@pytest.mark.parametrize(("values", "expected"), list(EXTENSIONS.values()), ids=list(EXTENSIONS))
def test_coords_of_pandas_types_become_arrays_of_numpy_at_the_door(values, expected, make_responses, tmp_path):
    attrs = {"long_name": "something"}
    given = make_responses(np.eye(4)).assign_coords(u=("unit", values, attrs), s=("stimulus", values))
    checked = check_responses(given)
    for coord in (checked.u, checked.s, align(given, given)[0].s):
        np.testing.assert_array_equal(coord.values.astype(np.asarray(expected).dtype), expected)
    assert checked.u.dtype == checked.s.dtype
    assert checked.u.attrs == attrs
    checked.to_netcdf(tmp_path / "responses.nc")


def test_results_with_coords_of_pandas_types_can_be_written(responses, images, tmp_path):
    for number, (values, _) in enumerate(EXTENSIONS.values()):
        of_units, of_stimuli = values[np.arange(8) % 4], values[np.arange(120) % 4]
        responses = responses.assign_coords({f"u{number}": ("unit", of_units), f"s{number}": ("stimulus", of_stimuli)})
        images = images.assign_coords({f"i{number}": ("stimulus", of_stimuli)})
    fitted = PCA(2, device="cpu").fit(responses)
    for number, result in enumerate((fitted.to_dataset(), fitted.transform(responses), check_images(images))):
        result.to_netcdf(tmp_path / f"{number}.nc")
    table = compare({"V4": responses}, images, [PCA(2, device="cpu")], [Color()], top=3, score_on="all")
    table.to_netcdf(tmp_path / "table.nc")
    restored = PCA.from_dataset(xr.load_dataset(tmp_path / "0.nc"))
    xr.testing.assert_equal(restored.transform(responses), fitted.transform(responses))


@pytest.mark.parametrize("dim", ["stimulus", "unit"])
def test_labels_may_be_categories_of_text(dim, responses):
    labels = responses[dim].values
    categories = responses.drop_vars(dim).assign_coords({dim: (dim, pd.Categorical(labels))})
    assert check_responses(categories)[dim].values.tolist() == labels.tolist()
    numbers = responses.drop_vars(dim).assign_coords({dim: (dim, pd.Categorical(range(len(labels))))})
    with pytest.raises(TypeError, match=f"need strings on '{dim}', got int; use"):
        check_responses(numbers)


def test_bytes_are_refused_in_one_line(responses):
    with pytest.raises(TypeError, match=r"need strings on 'stimulus', got bytes; use \.assign_coords"):
        check_responses(responses.assign_coords(stimulus=responses.stimulus.values.astype("S")))


@pytest.mark.parametrize(
    ("labels", "known", "expected"),
    [
        (["cat.jpg", "owl.PNG", "dog.01"], ["cat"], ["cat", "owl", "dog.01"]),
        (["cat.jpg", "owl"], ["owl", "cat"], None),  # one is known as it is
        (["cat.jpg"], ["dog"], None),
        (["cat.jpg", "cat.png"], ["cat"], None),  # two images would become one
        (["cat.01"], ["cat"], None),
        (["a/cat.jpg", "b/owl.png"], ["owl"], ["cat", "owl"]),
        (["a/cat", "c:\\b\\owl.png"], ["cat"], ["cat", "owl"]),
        (["a/cat.jpg", "b/owl.jpg"], ["a/cat"], ["a/cat", "b/owl"]),  # known with their folder
        (["a/cat.jpg", "b/cat.jpg"], ["cat"], None),  # two images would become one
        (["a/cat.jpg", "owl"], ["cat", "owl"], None),
    ],
)
def test_folders_and_extensions_of_images_are_dropped_only_if_nothing_else_differs(labels, known, expected):
    assert match_file_names(labels, known) == expected


@pytest.mark.parametrize("names", [["cat.jpg", "owl.jpg"], ["set/cat.jpg", "set/owl.jpg"], ["C:\\set\\cat", "set/owl"]])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_error_of_labels_that_are_paths_has_the_line_that_makes_them_names(reverse, names, make_responses):
    brain = make_responses(np.eye(2), stimulus=names)
    net = make_responses(np.eye(2), stimulus=["owl", "cat"])
    with pytest.raises(ValueError, match=r"has base names of files; make .* 'cat', and so on, with") as caught:
        align(*((net, brain) if reverse else (brain, net)))
    remedy = str(caught.value).rpartition(" with ")[2]
    renamed = eval(remedy, {"x": brain})  # what a user copies
    assert align(renamed, net)[1].stimulus.values.tolist() == ["cat", "owl"]
