"""Copies of one photograph are found, averaged on request, kept on one side of a split, and flagged among the top."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import (
    Color,
    KMeans,
    Units,
    align,
    compare,
    interpretability_index,
    load_images,
    split_stimuli,
    top_stimuli,
)
from neurosuper._content import photographs_of
from neurosuper.comparison.splits import split_systems
from neurosuper.copies import average_copies, find_copies
from neurosuper.interpretability import index_interval, null_test, separability
from neurosuper.interpretability.random_splits import draw_splits

SHOWN = [0, 1, 2, 0, 3, 4, 1, 0, 5, 6]  # the photograph of each stimulus
LABELS = [f"s{i}" for i in range(10)]


def images_of(photographs: list[int], seed: int = 0) -> xr.DataArray:
    pixels = np.random.default_rng(seed).integers(0, 255, (max(photographs) + 1, 4, 4, 3), np.uint8)
    labels = [f"s{i}" for i in range(len(photographs))]
    return load_images(pixels[photographs]).assign_coords(stimulus=labels)


def labelled(values: object, **coords: object) -> xr.DataArray:
    values = np.asarray(values, float)
    labels = {"stimulus": [f"s{i}" for i in range(len(values))], "unit": [f"u{i}" for i in range(values.shape[1])]}
    return xr.DataArray(values, dims=("stimulus", "unit"), coords=labels | coords, name="response")


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=12))
def test_each_stimulus_is_named_after_the_first_that_shows_its_photograph(shown):
    copies = find_copies(images_of(shown))
    assert copies.values.tolist() == [f"s{shown.index(photograph)}" for photograph in shown]
    assert (copies.n_photographs, copies.n_copies) == (len(set(shown)), len(shown) - len(set(shown)))


def test_copies_are_found_in_files_of_any_lossless_format_and_in_lazy_stacks(tmp_path, rng):
    from PIL import Image

    pixels = rng.integers(0, 255, (2, 5, 5, 3), np.uint8)
    for name, i in (("a.png", 0), ("b.bmp", 0), ("c.png", 1), ("d.tif", 0)):
        Image.fromarray(pixels[i]).save(tmp_path / name)
    expected = ["a", "a", "c", "a"]
    images = load_images(tmp_path, size=3)
    assert find_copies(images).values.tolist() == expected
    lazy = images.drop_vars("content").chunk(stimulus=2)
    assert find_copies(lazy).values.tolist() == expected
    known = lazy.assign_coords(content=find_copies(lazy).content)
    assert find_copies(align(labelled(np.eye(4), stimulus=list("abcd")), known)[0]).values.tolist() == expected


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        (lambda: labelled(np.eye(3)), ValueError, "do not say which photographs were shown; pass the images"),
        (lambda: np.zeros((2, 4, 4, 3), np.uint8), TypeError, "images must be an xarray.DataArray, got ndarray"),
    ],
)
def test_what_shows_no_photographs_is_refused(given_, error, message):
    with pytest.raises(error, match=message):
        find_copies(given_())


def test_the_average_of_copies_is_that_of_all_presentations(rng):
    values, n = rng.normal(size=(10, 3)), rng.integers(1, 6, 10)
    responses = labelled(values, n_repetitions=("stimulus", n), area=("unit", ["V1", "V4", "IT"]))
    averaged = average_copies(responses, images_of(SHOWN))
    assert averaged.stimulus.values.tolist() == ["s0", "s1", "s2", "s4", "s5", "s8", "s9"]
    for label, photograph in zip(averaged.stimulus.values, [0, 1, 2, 3, 4, 5, 6], strict=True):
        own = np.flatnonzero(np.array(SHOWN) == photograph)
        assert_allclose(averaged.sel(stimulus=label), np.average(values[own], axis=0, weights=n[own]))
        assert averaged.n_repetitions.sel(stimulus=label) == n[own].sum()
    assert averaged.n_copies_averaged == 3
    assert averaged.area.values.tolist() == ["V1", "V4", "IT"]
    assert find_copies(averaged).n_copies == 0


def test_responses_without_copies_are_averaged_to_themselves(rng):
    images = images_of(list(range(5)))
    responses = align(labelled(rng.normal(size=(5, 2))).astype(np.float32), images)[0]
    averaged = average_copies(responses)
    xr.testing.assert_allclose(averaged, responses)
    assert averaged.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int64])
def test_the_average_of_two_counts_may_be_a_half(dtype):
    counts = labelled([[1, 4], [2, 9], [7, 7]]).astype(dtype)
    averaged = average_copies(counts, images_of([0, 0, 1]))
    assert averaged.values.tolist() == [[1.5, 6.5], [7, 7]]


def test_averages_are_refused_before_repetitions_are_averaged_and_of_streams(rng):
    responses = labelled(rng.normal(size=(10, 2)))
    with pytest.raises(ValueError, match=r"call neurosuper\.average_repetitions"):
        average_copies(responses.expand_dims(repetition=2), images_of(SHOWN))
    with pytest.raises(ValueError, match=r"does not stream; .*compute\(\)"):
        average_copies(responses.chunk(stimulus=5), images_of(SHOWN))


@settings(deadline=None, max_examples=60)
@given(shown=st.lists(st.integers(0, 19), min_size=15, max_size=40), seed=st.integers(0, 20), share=st.floats(0.4, 0.6))
def test_a_split_never_separates_copies(shown, seed, share):
    images = images_of(shown)
    assume(len(set(shown)) >= 6 and max(map(shown.count, shown)) <= 0.2 * len(shown))
    marks = split_stimuli(images, fit=share, random_state=seed).split.values
    sides = {photograph: {m for m, p in zip(marks, shown, strict=True) if p == photograph} for photograph in shown}
    assert all(len(side) == 1 for side in sides.values())
    n_fit, largest = (marks == "fit").sum(), max(map(shown.count, shown))
    assert round(share * len(shown)) - largest < n_fit <= round(share * len(shown))
    shuffled = np.random.default_rng(seed).permutation(len(shown))
    again = split_stimuli(images.isel(stimulus=shuffled), fit=share, random_state=seed).split.values
    assert_array_equal(again, marks[shuffled])


@pytest.mark.parametrize("seed", [0, 7])
def test_without_copies_a_split_is_that_of_the_labels_alone(seed):
    images = images_of(list(range(40)))
    chosen = np.random.default_rng(seed).permutation(np.sort(images.stimulus.values))[:20]
    expected = np.where(np.isin(images.stimulus.values, chosen), "fit", "score")
    for each in (images, images.drop_vars("content")):
        assert_array_equal(split_stimuli(each, random_state=seed).split, expected)


def test_random_parts_of_stimuli_keep_copies_together(rng):
    labels, photographs = np.array(LABELS), np.array(SHOWN)
    drawn = draw_splits(labels, 2, 30, rng, photographs).values
    for photograph in range(7):
        own = drawn[:, photographs == photograph]
        assert (own == own[:, :1]).all()
    alone = [draw_splits(labels, 2, 30, np.random.default_rng(0), numbers) for numbers in (None, np.arange(10))]
    xr.testing.assert_identical(*alone)


def test_systems_are_split_the_same_way_by_photograph_even_where_labels_differ(rng):
    images = images_of(SHOWN * 2)
    known = align(labelled(rng.normal(size=(20, 2))), images)[0]
    a, b = split_systems({"a": known[:10], "b": known[10:]}, 0).values()
    assert_array_equal(a.split, b.split)
    marked = known[:10].assign_coords(
        split=("stimulus", ["fit" if photograph < 3 else "score" for photograph in SHOWN])
    )
    own, follows = split_systems({"a": marked, "b": known[10:]}, 0).values()
    assert_array_equal(follows.split, own.split)


def test_marks_that_separate_copies_are_told(rng):
    known = align(labelled(rng.normal(size=(10, 2))), images_of(SHOWN))[0]
    apart = known.assign_coords(split=("stimulus", ["fit", "score"] * 5))  # copies are s0 s3 s7, and s1 s6
    with pytest.warns(UserWarning, match="2 photographs are on both sides of the split"):
        split_systems({"V4": apart}, 0)


def test_top_stimuli_flag_a_photograph_that_is_there_twice():
    codes = align(
        labelled([[9, 0], [1, 9], [2, 8], [8, 1], [3, 7], [4, 2], [5, 3], [7, 4], [6, 6], [0, 5]]), images_of(SHOWN)
    )[0]
    top = top_stimuli(codes, top=4)
    assert top.sel(unit="u0").values.tolist() == ["s0", "s3", "s7", "s8"]
    assert top.is_copy.sel(unit="u0").values.tolist() == [False, True, True, False]
    assert not top.is_copy.sel(unit="u1").any()
    assert top.n_items_with_copies == 1
    assert "is_copy" not in top_stimuli(codes, top=1).coords
    assert "is_copy" not in top_stimuli(codes.drop_vars("content"), top=4).coords


@settings(deadline=None, max_examples=30)
@given(
    shown=st.lists(st.integers(0, 9), min_size=8, max_size=20),
    seed=st.integers(0, 99),
    end=st.sampled_from(["top", "bottom"]),
)
def test_flags_are_those_of_looking_at_each_photograph(shown, seed, end):
    codes = align(labelled(np.random.default_rng(seed).normal(size=(len(shown), 3))), images_of(shown))[0]
    top = top_stimuli(codes, top=6, end=end)
    for unit in codes.unit.values:
        seen = [shown[int(label[1:])] for label in top.sel(unit=unit).values]
        flags = top.is_copy.sel(unit=unit).values.tolist() if "is_copy" in top.coords else [False] * 6
        assert flags == [photograph in seen[:i] for i, photograph in enumerate(seen)]


def test_copies_raise_the_index_of_units_which_flags_them_and_averaging_undoes_it(rng):
    n, shown = 60, [*range(60), *range(20)]  # 20 photographs shown under two labels
    images = images_of(shown)
    tuning = rng.normal(size=(n, 30))
    responses = labelled(tuning[shown])
    with pytest.warns(UserWarning, match=r"\d+ of 30 items have copies of one photograph among their top 5 stimuli"):
        index = interpretability_index(responses, images, Color(device="cpu"))
    assert index.attrs["n_items_with_copies"] == index.has_copies.sum() > 10
    averaged = interpretability_index(average_copies(responses, images), images, Color(device="cpu"))
    assert "has_copies" not in averaged.coords
    assert index.mean() > averaged.mean() + 0.01
    assert_allclose(index[~index.has_copies], averaged[~index.has_copies], rtol=1e-6)
    assert_allclose(averaged, interpretability_index(responses[:n], images, Color(device="cpu")), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*have copies of one photograph")
def test_every_score_of_top_stimuli_counts_items_with_copies(rng):
    images = images_of(SHOWN * 4)
    responses = labelled(rng.normal(size=(40, 6)))
    color = Color(device="cpu")
    both = interpretability_index(responses, images, color, top=[3, 5], end="both")
    assert set(both.has_copies.dims) == set(both.dims) == {"end", "unit", "top"}
    assert (both.has_copies.sel(top=5) >= both.has_copies.sel(top=3)).all()
    one = int(interpretability_index(responses, images, color).has_copies.sum())
    assert one > 0
    table = compare({"V4": responses}, images, [Units()], [color], score_on="all")
    assert int(table.has_copies.sum()) == one
    for scored in (
        null_test(responses, images, color, n_resamples=19),
        index_interval(responses, images, color),
        separability(responses, images, color, n_references=3, n_trials=2),
    ):
        assert scored.attrs["n_items_with_copies"] > 0


def test_held_out_halves_of_a_comparison_share_no_photograph(rng):
    images = images_of(SHOWN * 6)
    brain = labelled(rng.normal(size=(60, 4)))
    with pytest.warns(UserWarning, match="have copies of one photograph"):
        table = compare({"V4": brain}, images, [KMeans(3, device="cpu")], [Color(device="cpu")], top=3)
    numbers = dict(zip(images.stimulus.values, photographs_of(images), strict=True))
    split = split_systems({"V4": align(brain, images)[0]}, 0)["V4"]
    sides = [{numbers[label] for label in split.stimulus.values[split.split == mark]} for mark in ("fit", "score")]
    assert not sides[0] & sides[1]
    tops = set(table.top_stimuli.values.ravel())
    assert {numbers[label] for label in tops} <= sides[1]


def test_a_split_of_few_photographs_is_refused_for_any_number_of_stimuli():
    with pytest.raises(ValueError, match=r"10 stimuli \(3 photographs\) must leave at least 2 stimuli on each side"):
        split_stimuli(images_of([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]))


def test_stacks_that_know_their_photographs_are_joined_to_lazy_ones_that_do_not():
    """As images of several recordings are put together; copies are found among all of them."""
    known, lazy = images_of([0, 1, 2]), images_of([0, 1, 3], seed=0).drop_vars("content").chunk(stimulus=2)
    both = xr.concat([known, load_images(lazy.assign_coords(stimulus=["a", "b", "c"]))], "stimulus")
    assert (both.content == "").values.tolist() == [False] * 3 + [True] * 3
    assert find_copies(both).values.tolist() == ["s0", "s1", "s2", "s0", "s1", "c"]
