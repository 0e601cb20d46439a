"""Interference equals a loop over pairs, has the values that geometry gives, and random directions do not stand out."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.linalg import hadamard

from neurosuper import CovarianceMatched, Random
from neurosuper.demo.superposed import superposed
from neurosuper.inference import compare_with_null
from neurosuper.superposition import geometry, interference

SCALARS = ["coherence", "welch", "rms", "frame_potential", "rank", "features_per_dimension"]


def label(values):
    values = np.asarray(values, float)
    names = {"direction": [f"d{i}" for i in range(len(values))], "unit": [f"u{j}" for j in range(values.shape[1])]}
    return xr.DataArray(values, names, ("direction", "unit"))


def by_loop(D):
    """Return interference, nearest and its position by a loop over pairs."""
    rows = []
    for i, a in enumerate(D):
        cosines = [0 if i == j else abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for j, b in enumerate(D)]
        rows.append((np.square(cosines).sum(), max(cosines), int(np.argmax(cosines))))
    return (np.array(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("entries", [2**24, 40])
def test_interference_is_that_of_a_loop_over_pairs(rng, monkeypatch, dtype, entries):
    monkeypatch.setattr(geometry, "BLOCK_ENTRIES", entries)
    D = label(rng.normal(size=(13, 5)) * rng.uniform(0.01, 100, (13, 1))).astype(dtype)
    found = interference(D)
    squares, nearest, at = by_loop(D.values.astype(float))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert_allclose(found.interference, squares, rtol=tolerance)
    assert_allclose(found.nearest, nearest, rtol=tolerance)
    assert found.nearest_direction.values.tolist() == D.direction.values[at].tolist()
    assert_allclose(found.dimensions, 1 / (1 + squares), rtol=tolerance)
    assert_allclose(found.coherence, nearest.max(), rtol=tolerance)
    assert_allclose(found.rms, np.sqrt(squares.sum() / (13 * 12)), rtol=tolerance)
    assert_allclose(found.frame_potential, (13 + squares.sum()) * 5 / 13**2, rtol=tolerance)
    assert found["rank"] == 5
    values = np.linalg.svd(D.values.astype(float) / np.linalg.norm(D, axis=1, keepdims=True))[1] ** 2
    assert_allclose(found.features_per_dimension, 13 * (values**2).sum() / values.sum() ** 2, rtol=tolerance)


def test_coherence_is_that_of_overcomplete():
    """`overcomplete.metrics.dictionary_collinearity` of overcomplete 0.3.0 gives this for the same matrix."""
    D = label(np.random.default_rng(7).normal(size=(40, 15)))
    assert_allclose(interference(D).coherence, 0.7394982191069294, rtol=1e-6)


def test_the_values_are_those_of_known_frames(rng):
    angles = np.deg2rad([90, 210, 330])
    three = interference(label(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    assert_allclose([three[name] for name in SCALARS], [0.5, 0.5, 0.5, 1, 2, 1.5])
    assert_allclose(three.dimensions, 2 / 3)
    axes = interference(label(np.concatenate([np.eye(4), -np.eye(4)])))
    assert_allclose(axes.dimensions, 0.5)
    assert_allclose([axes[name] for name in SCALARS], [1, (4 / 28) ** 0.5, (1 / 7) ** 0.5, 1, 4, 2])
    units = interference(label(np.eye(5)))
    assert_allclose([units[name] for name in SCALARS], [0, 0, 0, 1, 5, 1], atol=1e-15)
    assert_allclose(units.dimensions, 1)
    gaussian = interference(label(rng.normal(size=(400, 100))))
    assert abs(gaussian.rms - 0.1) < 0.001
    assert abs(gaussian.frame_potential - 1.2475) < 0.01  # d (1 + (K − 1)/d) / K = 499/400
    assert gaussian.rms > gaussian.welch


def test_directions_of_the_toy_world_interfere_as_derived(world):
    found = interference(world.directions)
    assert_allclose(found.interference.mean(), 59 / 20, rtol=0.05)
    assert found["rank"] == 20


def test_directions_that_are_as_far_apart_as_possible_interfere_less_than_random_ones():
    def gaussian(D, *, random_state):
        return D.copy(data=np.random.default_rng(random_state).normal(size=D.shape))

    def test(D):
        return compare_with_null(lambda D: interference(D).rms, D, gaussian, alternative="less", n_resamples=39)

    unbiased, alike = (label(np.concatenate([np.eye(4), other])) for other in (hadamard(4) / 2, np.eye(4) + 0.5))
    assert test(unbiased).p_value == 1 / 40  # two bases, each at 60° to the other: a tight frame
    assert test(alike).p_value > 0.05
    assert test(gaussian(alike, random_state=99)).p_value > 0.05


def test_an_uneven_covariance_alone_makes_directions_parallel(make_responses, rng):
    responses = make_responses(rng.normal(size=(300, 20)) * np.linspace(0.1, 1, 20) ** 3)
    even, uneven = (
        interference(finder.fit(responses).directions_).rms
        for finder in (Random(40, random_state=0), CovarianceMatched(40, center=True, random_state=0))
    )
    assert abs(even - 20**-0.5) < 0.02
    assert uneven > 1.5 * even


def test_features_that_are_independent_fire_together_as_often_as_chance_has_it(world):
    codes = world.features.rename(feature="direction")
    found = interference(world.directions, codes=codes, n_resamples=20)
    assert found.cofiring_low < 1 < found.cofiring_high
    assert found.cofiring_high - found.cofiring_low < 1


def test_cofiring_is_the_mean_ratio_of_the_most_interfering_pairs(world):
    codes = world.features.rename(feature="direction").isel(direction=slice(20))
    D = world.directions.isel(direction=slice(20))
    cosines = np.abs(D.values @ D.values.T)
    pairs = sorted(((cosines[i, j], i, j) for i in range(20) for j in range(i)), reverse=True)[:10]  # 5 % of 190
    Z = np.maximum(codes.values, 0)
    expected = np.mean([(Z[:, i] * Z[:, j]).mean() / (Z[:, i].mean() * Z[:, j].mean()) for _, i, j in pairs])
    found = interference(D, codes=codes[:, ::-1], n_resamples=10)
    assert_allclose(found.cofiring, expected)
    settings = {"n_stimuli": 400, "n_resamples": 10, "confidence_level": 0.95, "random_state": 0}
    assert found.attrs == {"method": "directions", "quantity": "squared cosine", "n_pairs": 10} | settings


def test_interfering_features_that_avoid_each_other_have_low_cofiring():
    world = superposed(n_features=40, n_units=10, n_stimuli=600, active=0.5, random_state=0)
    D, Z = world.directions, world.features.rename(feature="direction").values.copy()
    cosines = np.abs(np.triu(D.values @ D.values.T, 1))
    for i, j in np.argwhere(cosines > np.quantile(cosines[np.triu_indices(40, 1)], 0.94)):
        both = (Z[:, i] > 0) & (Z[:, j] > 0)
        Z[both, i] = 0
    codes = xr.DataArray(Z, {"stimulus": world.stimulus, "direction": D.direction}, ("stimulus", "direction"))
    codes = codes[:, Z.any(0)]
    found = interference(D.sel(direction=codes.direction), codes=codes, n_resamples=20)
    assert found.cofiring_high < 0.5


def test_neither_order_nor_chunks_nor_signs_change_the_result(world):
    D, codes = world.directions, world.features.rename(feature="direction")
    found = interference(D, codes=codes, n_resamples=10)
    order = np.random.default_rng(0).permutation(60)
    other = interference(
        D.isel(direction=order, unit=slice(None, None, -1)).chunk(), codes=codes[::-1].chunk(), n_resamples=10
    ).sel(direction=D.direction)
    for name in ("interference", "dimensions", "nearest", "cofiring", *SCALARS):
        assert_allclose(other[name], found[name], rtol=1e-10)
    assert (other.nearest_direction == found.nearest_direction).all()
    assert_allclose(interference(-D).interference, found.interference)


def test_coords_of_directions_are_kept():
    D = label(np.eye(3)).assign_coords(name=("direction", list("xyz"))).assign_attrs(method="KMeans")
    found = interference(D)
    assert found.name.values.tolist() == list("xyz")
    assert found.attrs == {"method": "KMeans", "quantity": "squared cosine"}


def test_very_long_and_very_short_directions_are_scaled():
    assert_allclose(interference(label([[1e300, 1e300], [1e-300, 0]])).coherence, 0.5**0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda D, Z: (D[:1], None), "interference is between directions; got 1, give at least 2"),
        (lambda D, Z: (D * 0, None), "has no weight other than 0"),
        (lambda D, Z: (D, Z.rename(direction="unit")), "codes must have the dims stimulus and direction"),
        (lambda D, Z: (D[:2], Z), "codes and directions differ in direction 'd2'; give codes of the same ones"),
        (lambda D, Z: (D, Z.where(Z != 2)), "codes contain NaN or infinite values, in direction 'd2'"),
        (lambda D, Z: (D, -Z), "codes of direction 'd0', 'd1', 'd2' are never above 0; leave out such directions"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    D = label(np.eye(3))
    names = {"stimulus": list("abcdefgh"), "direction": D.direction}
    Z = xr.DataArray(np.tile([[0.5, 1, 2]], (8, 1)), names, ("stimulus", "direction"))
    directions, codes = change(D, Z)
    with pytest.raises(ValueError, match=message) as error:
        interference(directions, codes=codes)
    assert "\n" not in str(error.value)


def test_more_pairs_than_memory_are_refused_with_their_number(monkeypatch):
    monkeypatch.setattr(geometry, "MOST_PAIRS", 10)
    names = {"stimulus": list("abcdefgh"), "direction": [f"d{i}" for i in range(6)]}
    Z = xr.DataArray(np.ones((8, 6)), names, ("stimulus", "direction"))
    with pytest.raises(ValueError, match=r"cosines of 15 pairs at once, 0.0 GiB; select at most 4 directions, or"):
        interference(label(np.eye(6)), codes=Z)
