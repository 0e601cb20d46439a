"""The contract of responses, and what is done to them before directions are sought."""

import itertools
from collections.abc import Callable

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.preprocessing
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import align, average_repetitions, normalize, split_stimuli
from neurosuper.responses import check_responses, drop_constant_units

NAN, INF = np.nan, np.inf


def repeat(values: np.ndarray) -> xr.DataArray:
    """Label values `(stimulus, repetition, unit)`."""
    n_stimuli, _, n_units = values.shape
    return xr.DataArray(
        values,
        dims=("stimulus", "repetition", "unit"),
        coords={
            "stimulus": [f"s{i}" for i in range(n_stimuli)],
            "unit": [f"u{i}" for i in range(n_units)],
            "category": ("stimulus", ["owl"] * n_stimuli),
        },
        name="response",
        attrs={"units": "spike count"},
    )


def unread(array: xr.DataArray) -> xr.DataArray:
    """The same labels over a dask array that fails when it is computed."""

    def fail() -> None:
        raise RuntimeError("computed")

    return array.copy(data=da.from_delayed(dask.delayed(fail)(), array.shape, array.dtype))


def assert_refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def replace(responses: xr.DataArray, *cells: tuple[int, int, float]) -> xr.DataArray:
    changed = responses.copy()
    for stimulus, unit, value in cells:
        changed[stimulus, unit] = value
    return changed


@pytest.mark.parametrize("order", list(itertools.permutations(("stimulus", "repetition", "unit"))))
def test_dims_come_in_any_order_and_leave_in_that_of_the_contract(rng, order):
    expected = repeat(rng.normal(size=(3, 4, 2)))
    xr.testing.assert_identical(check_responses(expected.transpose(*order)), expected)


def test_a_unit_by_stimulus_matrix_is_transposed_and_named(responses):
    checked = check_responses(responses.T.rename("rates"))
    xr.testing.assert_identical(checked, responses)
    assert checked.dims == ("stimulus", "unit")
    assert checked.name == "response"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8, bool])
def test_real_numbers_keep_their_dtype(make_responses, dtype):
    assert check_responses(make_responses(np.eye(3, dtype=dtype))).dtype == dtype


def test_nan_is_accepted_along_repetition():
    missing = repeat(np.array([[[1.0], [NAN]], [[2.0], [3.0]]]))
    xr.testing.assert_identical(check_responses(missing), missing)


def test_dask_responses_stay_lazy(responses):
    checked = check_responses(unread(responses).T)
    assert checked.dims == ("stimulus", "unit")
    with pytest.raises(RuntimeError, match="computed"):
        checked.compute()


def relabel(dim: str, *first: object) -> Callable[[xr.DataArray], xr.DataArray]:
    """Replace the first labels of a dim."""
    return lambda r: r.assign_coords({dim: [*first, *r[dim].values[len(first) :]]})


MULTI_INDEX = pd.MultiIndex.from_product([list("ab"), range(60)], names=["session", "image"])
REFUSED = {
    "an array": (lambda r: r.values, TypeError, "must be an xarray.DataArray, got ndarray; neurosuper.as_responses"),
    "no unit": (
        lambda r: r.rename(unit="neuron"),
        ValueError,
        r"dim 'unit', got dims \('stimulus', 'neuron'\); rename",
    ),
    "no stimulus": (lambda r: r[0], ValueError, r"need a dim 'stimulus', got dims \('unit',\)"),
    "no labels": (
        lambda r: r.drop_vars("stimulus"),
        ValueError,
        r"need labels on 'stimulus'; add them with \.assign_coords\(stimulus=\[\.\.\.\]\)",
    ),
    "numbers for labels": (
        lambda r: r.assign_coords(unit=range(8)),
        TypeError,
        r"need strings on 'unit', got int; use \.assign_coords\(unit=labels\.astype\(str\)\)",
    ),
    "one number among labels": (
        lambda r: r.assign_coords(unit=np.array(["a", 1.5, *"cdefgh"], object)),
        TypeError,
        "need strings on 'unit', got float;",
    ),
    "MultiIndex": (
        lambda r: r.drop_vars("stimulus").assign_coords(xr.Coordinates.from_pandas_multiindex(MULTI_INDEX, "stimulus")),
        ValueError,
        r"MultiIndex on 'stimulus'; flatten it with \.reset_index\('stimulus'\)",
    ),
    "a label twice": (relabel("unit", "a", "a"), ValueError, "duplicate unit labels 'a'; average or relabel them"),
    "many labels twice": (
        relabel("stimulus", *"aabbccdd"),
        ValueError,
        r"duplicate stimulus labels 'a', 'b', 'c', … \(4 in all\)",
    ),
    "more dims": (
        lambda r: r.expand_dims(time=2, area=1),
        ValueError,
        r"extra dims \['area', 'time'\]; select or average them first",
    ),
    "complex": (lambda r: r.astype(complex), TypeError, "must be real numbers, got dtype complex128"),
    "text": (lambda r: r.astype(str), TypeError, "must be real numbers, got dtype <U"),
    "one stimulus": (lambda r: r[:1], ValueError, r"at least 2 stimuli and 1 unit, got \{'stimulus': 1, 'unit': 8\}"),
    "no units": (lambda r: r[:, :0], ValueError, r"at least 2 stimuli and 1 unit, got \{'stimulus': 120, 'unit': 0\}"),
    "NaN": (
        lambda r: replace(r, (0, 3, NAN), (5, 3, NAN), (5, 6, INF)),
        ValueError,
        r"contain 3 NaN or infinite values, in unit 'u003', 'u006'; drop those units, or .*\.dropna\('stimulus'\)",
    ),
    "infinite": (lambda r: replace(r, (0, 7, -INF)), ValueError, "contain 1 NaN or infinite values, in unit 'u007'"),
}


@pytest.mark.parametrize(("change", "error", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_breaks_the_contract_is_refused_in_one_line(responses, change, error, message):
    assert_refused(error, message, lambda: check_responses(change(responses)))


def test_the_cure_named_for_bad_values_works(responses):
    bad = replace(responses, (0, 3, INF))
    with pytest.raises(ValueError, match="remove the values with") as caught:
        check_responses(bad)
    cure = str(caught.value).rpartition("remove the values with ")[2]
    cured = check_responses(eval(cure, {"np": np, "responses": bad}))
    assert cured.sizes["stimulus"] == 119


def test_infinite_repetitions_are_refused(rng):
    values = rng.normal(size=(3, 2, 4))
    values[1, 1, 2], values[0, 0, 0] = INF, NAN
    assert_refused(
        ValueError, r"1 infinite values, in unit 'u2'; .*np\.isfinite", lambda: check_responses(repeat(values))
    )


def test_average_is_numpys_nanmean_and_counts_repetitions(rng):
    values = rng.poisson(5.0, (5, 6, 3)).astype(np.float32)
    values[1, 4:] = NAN  # fewer repetitions
    values[2, 1:, 0] = NAN  # fewer of one unit
    average = average_repetitions(repeat(values))
    assert_allclose(average, np.nanmean(values, axis=1), rtol=1e-6)
    assert average.n_repetitions.values.tolist() == [6, 4, 6, 6, 6]
    assert average.dtype == np.float32
    assert average.attrs == {"units": "spike count"}
    assert set(average.category.values) == {"owl"}


def test_integer_counts_are_averaged(rng):
    counts = rng.poisson(5.0, (4, 3, 2))
    assert_allclose(average_repetitions(repeat(counts)), counts.mean(axis=1))


def test_a_unit_without_any_repetition_of_a_stimulus_stays_nan():
    average = average_repetitions(repeat(np.array([[[NAN, 1.0], [NAN, 3.0]], [[5.0, 6.0], [7.0, NAN]]])))
    assert_array_equal(average, [[NAN, 2.0], [6.0, 6.0]])
    assert average.n_repetitions.values.tolist() == [2, 2]


def test_responses_without_repetitions_are_returned_as_they_are(responses):
    xr.testing.assert_identical(average_repetitions(responses), responses)


def test_the_average_of_dask_responses_stays_lazy(rng):
    counts = repeat(rng.normal(size=(4, 3, 2)))
    assert average_repetitions(unread(counts)).chunks is not None
    xr.testing.assert_allclose(average_repetitions(counts.chunk(stimulus=2)).compute(), average_repetitions(counts))


@settings(deadline=None, max_examples=30)
@given(
    values=arrays(np.float64, (3, 4, 2), elements=st.just(NAN) | st.floats(-100, 100)),
    order=st.permutations(range(4)),
    padding=st.integers(0, 3),
)
def test_neither_the_order_of_repetitions_nor_missing_ones_matter(values, order, padding):
    missing = np.full((3, padding, 2), NAN)
    shuffled = np.concatenate([values[:, order], missing], axis=1)
    xr.testing.assert_allclose(average_repetitions(repeat(shuffled)), average_repetitions(repeat(values)), atol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_zscore_is_scipys(responses, dtype, rtol):
    scores = normalize(responses.astype(dtype), "zscore")
    assert_allclose(scores, scipy.stats.zscore(responses.values), rtol=rtol, atol=rtol)
    assert scores.dtype == dtype


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_unit_norm_is_scikit_learns_and_leaves_silent_stimuli_at_zero(responses, dtype, rtol):
    responses = responses.astype(dtype)
    responses[7] = 0
    normed = normalize(responses, "unit_norm")
    assert_allclose(normed, sklearn.preprocessing.normalize(responses.values), rtol=rtol)
    assert not normed[7].any()
    assert normed.dtype == dtype


@pytest.mark.parametrize("how", ["zscore", "unit_norm"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_small_dtypes_are_normalized_in_float64(make_responses, how, dtype):
    counts = make_responses(np.array([[200, 0], [100, 255], [0, 250]], dtype))
    normed = normalize(counts, how)
    assert normed.dtype == np.float64
    xr.testing.assert_identical(normed, normalize(counts.astype(float), how))


def test_normalizing_keeps_coords_and_attrs_and_says_what_it_did(responses):
    responses = responses.assign_coords(area=("unit", ["V4"] * 8)).assign_attrs(dataset="planted")
    scores, normed = normalize(responses, "zscore"), normalize(responses, "unit_norm")
    xr.testing.assert_identical(scores.coords.to_dataset(), responses.coords.to_dataset())
    assert scores.attrs == {"units": "s.d.", "dataset": "planted", "normalized": "zscore"}
    assert normed.attrs == {"units": "1", "dataset": "planted", "normalized": "unit_norm"}
    assert responses.attrs["units"] == "spikes/s"


def test_zscore_names_units_of_zero_variance(responses):
    responses[:, 2] = 0.1
    assert_refused(
        ValueError,
        r"zero variance over stimuli in unit 'u002'; drop .* neurosuper\.responses\.drop_constant_units\(responses\)",
        lambda: normalize(responses, "zscore"),
    )
    normalize(drop_constant_units(responses), "zscore")


def test_another_way_to_normalize_is_refused(responses):
    assert_refused(
        ValueError, "how must be 'zscore' or 'unit_norm', got 'minmax'", lambda: normalize(responses, "minmax")
    )


@pytest.mark.parametrize("function", [drop_constant_units, lambda r: normalize(r, "zscore")])
def test_repetitions_must_be_averaged_first(rng, function):
    counts = repeat(rng.normal(size=(4, 3, 2)))
    assert_refused(ValueError, r"call neurosuper\.average_repetitions\(responses\) first", lambda: function(counts))


@pytest.mark.parametrize("dtype", [np.float64, np.int8, bool])
def test_constant_units_are_dropped_and_listed(make_responses, dtype):
    values = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 1]], dtype)
    kept = drop_constant_units(make_responses(values, area=("unit", ["V1", "V2", "V3", "V4"])))
    assert kept.area.values.tolist() == ["V2", "V4"]
    assert_array_equal(kept, values[:, [1, 3]])
    assert kept.attrs == {"units": "spikes/s", "dropped_units": ["u000", "u002"]}


def test_what_varies_only_by_rounding_is_constant(make_responses, rng):
    """A mean of 0.1 over unequal numbers of repetitions; noise in the tenth digit; and what is small, but varies."""
    mean_of_3, noise = (0.1 + 0.1 + 0.1) / 3, rng.normal(size=4)
    assert mean_of_3 != 0.1
    values = np.stack([[0.1, mean_of_3, 0.1, 0.1], 1000 + 1e-6 * noise, 1e-50 * noise, 1000 + noise], axis=1)
    assert drop_constant_units(make_responses(values)).attrs["dropped_units"] == ["u000", "u001"]


def test_a_unit_must_vary_within_each_part_of_a_split(make_responses):
    values = np.array([[1, 1, 1], [2, 1, 2], [1, 1, 5], [2, 2, 5]], float)
    split = ("stimulus", ["fit", "fit", "score", "score"])
    assert drop_constant_units(make_responses(values)).attrs["dropped_units"] == []
    assert drop_constant_units(make_responses(values, split=split)).attrs["dropped_units"] == ["u001", "u002"]


def test_a_population_that_never_varies_is_refused(make_responses):
    assert_refused(
        ValueError,
        "all 5 units are constant over the stimuli; check the window and the loader",
        lambda: drop_constant_units(make_responses(np.ones((4, 5)))),
    )


@pytest.mark.parametrize(("share", "n_fit"), [(0.5, 60), (0.25, 30), (0.98, 118)])
def test_a_split_has_the_share_that_was_asked_for(responses, share, n_fit):
    split = split_stimuli(responses, fit=share).split
    assert (split == "fit").sum() == n_fit
    assert (split == "score").sum() == 120 - n_fit


def test_a_split_depends_on_the_labels_and_the_seed_alone(responses, rng):
    split = split_stimuli(responses).split
    shuffled = responses[rng.permutation(120)]
    as_objects = shuffled.assign_coords(stimulus=shuffled.stimulus.values.astype(object))
    for same in (shuffled, as_objects, shuffled.to_dataset(), responses[:, :1] * 0):
        xr.testing.assert_equal(split_stimuli(same).split.sortby("stimulus").astype(str), split)
    assert (split_stimuli(responses, random_state=1).split != split).any()


def test_a_split_leaves_the_data_and_the_global_random_state_alone(responses):
    before = np.random.get_state()[1].copy()
    xr.testing.assert_identical(split_stimuli(responses).drop_vars("split"), responses)
    assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, NAN, INF, 0.01, 0.99])
def test_a_split_needs_two_stimuli_on_each_side(responses, share):
    message = rf"fit={share} of 120 stimuli must leave at least 2 stimuli on each side; use a share in \(0, 1\)"
    assert_refused(ValueError, message, lambda: split_stimuli(responses, fit=share))


def test_a_split_needs_labels(responses):
    dataset = responses.to_dataset().rename(stimulus="image")
    assert_refused(ValueError, r"need a dim 'stimulus', got dims \(.*'image'.*\)", lambda: split_stimuli(dataset))


def test_align_keeps_what_both_share_in_the_order_of_the_first(responses, images, rng):
    brain = responses[rng.permutation(120)[:70]]
    shown = images[rng.permutation(120)[:70]]
    with pytest.warns(UserWarning, match="which have no partner"):
        aligned, stack = align(brain, shown)
    order = [label for label in brain.stimulus.values if label in shown.stimulus.values]
    assert aligned.stimulus.values.tolist() == stack.stimulus.values.tolist() == order
    counted = {"n_stimuli_left_out": 70 - len(order)}
    xr.testing.assert_identical(aligned, brain.sel(stimulus=order).assign_attrs(counted))
    xr.testing.assert_identical(stack, shown.sel(stimulus=order).assign_attrs(counted))


def test_align_takes_datasets_and_dask(responses):
    dataset = responses[::-2].to_dataset()
    with pytest.warns(UserWarning, match=r"60 of 120 of the first .* and 0 of 60 of the second"):
        ours, theirs = align(unread(responses), dataset)
    assert ours.stimulus.values.tolist() == responses.stimulus.values[1::2].tolist()
    xr.testing.assert_identical(theirs, dataset.isel(stimulus=slice(None, None, -1)))


def test_systems_that_share_no_stimulus_show_three_labels_a_side(responses):
    other = responses[:3].assign_coords(stimulus=["owl", "cat", "dog"])
    assert_refused(
        ValueError,
        r"no stimulus label in common: 's0000', 's0001', 's0002', … \(120 in all\) against "
        r"'owl', 'cat', 'dog'; labels are base names of image files without extension",
        lambda: align(responses, other),
    )


def test_both_sides_need_labels(responses):
    for pair in ((responses, responses.drop_vars("stimulus")), (responses.drop_vars("stimulus"), responses)):
        assert_refused(ValueError, "both sides need labels on 'stimulus'", lambda pair=pair: align(*pair))
