"""Codes of directions of one's own agree with a loop over their weights, and with finders that project."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

import neurosuper as ns
from neurosuper import ICA, NMF, PCA, Color, KMeans, Random, Units, interpretability_index, project, top_stimuli


@pytest.fixture
def directions(rng) -> xr.DataArray:
    """Three directions over the eight units of `responses`, in another order, one not of unit length."""
    weights = rng.normal(size=(3, 8)) * np.array([[1.0], [5.0], [0.01]])
    coords = {"direction": ["red", "round", "large"], "unit": [f"u{i:03d}" for i in (3, 1, 4, 0, 7, 5, 2, 6)]}
    return xr.DataArray(weights, coords, ("direction", "unit")).assign_coords(found=("direction", [1, 2, 3]))


def by_hand(responses, directions):
    """Return Σ_unit weight × response, one stimulus and direction at a time."""
    codes = np.zeros((responses.sizes["stimulus"], directions.sizes["direction"]))
    for i, stimulus in enumerate(responses.stimulus.values):
        for j, direction in enumerate(directions.direction.values):
            for unit in responses.unit.values:
                response = float(responses.sel(stimulus=stimulus, unit=unit))
                codes[i, j] += response * float(directions.sel(direction=direction, unit=unit))
    return codes


def test_codes_are_weighted_sums_of_the_units_of_the_same_name(responses, directions):
    own = responses[:20].assign_coords(category=("stimulus", list("ab" * 10)), area=("unit", ["V4"] * 8))
    codes = project(own, directions)
    assert codes.dims == ("stimulus", "direction")
    assert_allclose(codes, by_hand(own, directions), rtol=1e-10)
    assert set(codes.coords) == {"stimulus", "category", "direction", "found"}
    assert (codes.name, codes.attrs["units"], codes.attrs["method"]) == ("code", "spikes/s", "project")
    xr.testing.assert_identical(project(own.T, directions.T), codes)


@pytest.mark.parametrize("finder", [PCA(3), ICA(3), Random(5), Units()], ids=lambda finder: type(finder).__name__)
def test_codes_of_a_finders_directions_are_its_own(finder, responses):
    """ICA's codes are not projections on its directions, but on its filters."""
    fitted = finder.fit(responses)
    axes = fitted.filters_ if isinstance(finder, ICA) else fitted.directions_
    codes = project(responses - fitted.mean_, axes)
    assert_allclose(codes, fitted.transform(responses), rtol=2e-4, atol=1e-4)
    raw = project(responses, axes)
    assert_allclose((raw - codes).std("stimulus"), 0, atol=1e-10)
    xr.testing.assert_equal(top_stimuli(raw).drop_vars("code"), top_stimuli(codes).drop_vars("code"))


def test_with_the_finders_preparation_codes_are_those_of_k_means(responses):
    fitted = KMeans(4).fit(responses)
    codes = project(ns.normalize(responses, "unit_norm"), fitted.directions_)
    assert codes.attrs["method"] == "KMeans"
    assert_allclose(codes, fitted.transform(responses), rtol=1e-5)
    assert not np.allclose(project(responses, NMF(4).fit(responses).directions_), NMF(4).fit_transform(responses))


def test_codes_are_scored_as_those_of_finders_are(responses, images, directions):
    index = interpretability_index(project(responses, directions), images, Color())
    assert index.direction.values.tolist() == ["red", "round", "large"]
    assert_allclose(index, interpretability_index(project(responses, 7 * directions), images, Color()))


def test_repetitions_are_projected_each_and_missing_ones_stay_missing(responses, directions):
    repeated = xr.concat([responses, 2 * responses], "repetition").transpose("stimulus", "repetition", "unit")
    repeated[0, 1] = np.nan
    codes = project(repeated, directions)
    assert codes.dims == ("stimulus", "repetition", "direction")
    assert_allclose(codes[1:, 1], 2 * project(responses, directions)[1:])
    assert np.isnan(codes[0, 1]).all()
    assert int(codes.isnull().sum()) == 3


@pytest.mark.parametrize("chunks", [{"stimulus": 50}, {"stimulus": 50, "unit": 3}])
def test_lazy_responses_give_lazy_codes(chunks, responses, directions):
    codes = project(responses.chunk(chunks), directions)
    assert codes.chunks[0] == (50, 50, 20)
    xr.testing.assert_allclose(codes.compute(), project(responses, directions))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
def test_small_types_lose_no_digits(dtype, responses, directions):
    counts = responses.round().astype(dtype)
    narrow = directions.astype("float16" if dtype == "float16" else "float32")
    codes = project(counts, narrow)
    assert codes.dtype == np.result_type(np.dtype(dtype), np.float32)
    assert_allclose(codes, project(counts.astype(float), narrow.astype(float)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: d.values, TypeError, r"directions must be a DataArray \(direction, unit\), got ndarray; make one"),
        (lambda d: d.rename(unit="cell"), ValueError, r"must have the dims direction and unit, got \('direction', 'c"),
        (lambda d: d.drop_vars("direction"), ValueError, "directions need labels on 'direction'"),
        (lambda d: d.astype(complex), TypeError, "directions must be real numbers, got dtype complex128"),
        (
            lambda d: d[:, :6],
            ValueError,
            "have 6 units and responses 8; they differ in 'u002', 'u006'; select the same",
        ),
        (
            lambda d: d.assign_coords(unit=list("abcdefgh")),
            ValueError,
            r"they differ in 'a', 'b', 'c', … \(16 in all\)",
        ),
        (lambda d: d * [[1], [0], [1]], ValueError, "direction 'round' has no weight other than 0"),
        (
            lambda d: d.where(d.unit != "u003"),
            ValueError,
            "direction 'red', 'round', 'large' has weights that are not f",
        ),
    ],
)
def test_what_cannot_be_projected_on_is_refused_in_one_line(change, error, message, responses, directions):
    with pytest.raises(error, match=message) as caught:
        project(responses, change(directions))
    assert "\n" not in str(caught.value)
    project(responses, directions[:, :6].reindex(unit=responses.unit, fill_value=0))  # the advice in the error
