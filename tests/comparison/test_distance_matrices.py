"""Dissimilarities are those of rsatoolbox, and unbiased by noise where they are cross-validated."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist

from neurosuper.comparison import dissimilarities

COUNTS = [
    [[11, 8, 11, 8], [6, 8, 6, 6], [7, 8, 7, 9]],
    [[9, 9, 10, 10], [7, 7, 8, 8], [9, 8, 8, 7]],
    [[10, 8, 7, 10], [2, 5, 4, 2], [0, 1, 0, 0]],
    [[4, 5, 3, 5], [5, 5, 4, 3], [9, 8, 8, 8]],
    [[8, 11, 8, 8], [0, 3, 2, 3], [4, 6, 5, 5]],
]
# Of COUNTS by rsatoolbox 0.3.2: calc_rdm(average, distance), and calc_rdm(repetitions, "crossnobis", cv_descriptor)
# with prec_from_measurements, whose degrees of freedom are given (by itself it takes (stimuli − 1) × repetitions).
RSATOOLBOX = {
    ("sqeuclidean", "none"): [
        0.25,
        14.833333333333,
        5.6111111111111,
        8.0555555555556,
        18.416666666667,
        7.9722222222222,
        10.75,
        2.3333333333333,
        1.8888888888889,
        1.1111111111111,
    ],
    ("correlation", "none"): [
        1,
        0.8675467642935,
        0.66666666666667,
        1.0504433272305,
        1.9733285267846,
        1.8164965809277,
        1.6178020632152,
        0.24943166432981,
        0.25836660782506,
        0.88229890312876,
    ],
    ("poisson", "none"): [
        0.027516310104929,
        2.3071094989937,
        0.76269189036629,
        1.178376998459,
        2.7821965757591,
        1.0518489321305,
        1.5159635909649,
        0.43248792936347,
        0.33641150645068,
        0.19630685130415,
    ],
    ("crossnobis", "none"): [
        -0.83333333333333,
        10,
        1.75,
        6,
        13.666666666667,
        5.0833333333333,
        8.5833333333333,
        -11.25,
        -2.25,
        -5.25,
    ],
    ("crossnobis", "diagonal"): [
        -0.088973331927254,
        1.2018271302392,
        0.25764313641698,
        0.58145377660768,
        1.6698206606442,
        0.6283150006683,
        0.90871491599704,
        -1.2875782718603,
        -0.24090845480174,
        -0.6590687986124,
    ],
    ("crossnobis", "shrinkage"): [
        -0.26798342303693,
        0.21288342697996,
        -0.0658973459811,
        0.030231429909284,
        0.58666861950915,
        0.31692380767571,
        0.45030524721,
        -0.51696598451847,
        -0.10760785914413,
        -0.083989006356268,
    ],
}
# calc_rdm_unbalanced and cov_from_unbalanced, without the third repetition of stimulus 1 and the first of stimulus 4
UNBALANCED = [
    -0.056964423708525,
    0.39021019471051,
    0.013282481541926,
    0.7377470558659,
    1.7539266859098,
    -0.077896423847793,
    0.46261008465673,
    -0.58656864855311,
    -0.93647345966045,
    0.33507339151015,
]
UPPER = np.triu_indices(5, 1)


def repeated(values) -> xr.DataArray:
    values = np.asarray(values, float)
    coords = {"stimulus": [f"s{i:03d}" for i in range(len(values))], "unit": [f"u{i}" for i in range(values.shape[2])]}
    return xr.DataArray(values, coords, ("stimulus", "repetition", "unit"))


@pytest.mark.parametrize(("distance", "noise"), RSATOOLBOX)
def test_values_of_rsatoolbox(distance, noise):
    responses = repeated(COUNTS)
    if distance != "crossnobis":
        responses = responses.mean("repetition")
    found = dissimilarities(responses, distance=distance, noise=noise)
    np.testing.assert_allclose(found.values[UPPER], RSATOOLBOX[distance, noise], rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(found.values, found.values.T)
    assert (found.values.diagonal() == 0).all()


def test_missing_repetitions_are_weighted_as_in_rsatoolbox():
    responses = repeated(COUNTS)
    responses[1, 2] = responses[4, 0] = np.nan
    found = dissimilarities(responses)
    np.testing.assert_allclose(found.values[UPPER], UNBALANCED, rtol=1e-10)


@pytest.mark.parametrize("distance", ["sqeuclidean", "correlation", "cosine"])
def test_values_of_scipy(distance):
    averages = repeated(COUNTS).mean("repetition")
    found = dissimilarities(averages, distance=distance).values[UPPER]
    scale = averages.sizes["unit"] if distance == "sqeuclidean" else 1
    np.testing.assert_allclose(found, pdist(averages.values, distance) / scale, rtol=1e-10)


def test_crossnobis_is_the_mean_over_pairs_of_repetitions():
    responses, expected = repeated(COUNTS), np.zeros((5, 5))
    R = responses.values
    for m in range(3):
        for n in range(3):
            if m != n:
                expected += np.einsum("ijk,ijk->ij", R[:, None, m] - R[:, m], R[:, None, n] - R[:, n]) / 6 / 4
    np.testing.assert_allclose(dissimilarities(responses, noise="none").values, expected, atol=1e-12)


def test_noise_alone_has_no_cross_validated_distance():
    rng, upper = np.random.default_rng(0), np.triu_indices(20, 1)
    worlds = [repeated(rng.normal(size=(20, 4, 8))) for _ in range(60)]

    def means(**settings):
        return np.array([dissimilarities(world, **settings).values[upper].mean() for world in worlds])

    exact, whitened = means(noise="none"), means()
    assert abs(exact.mean()) < 2.5 * exact.std() / np.sqrt(60)
    bound = 2 / 4 * 9 / (60 - 9)  # as documented: 60 degrees of freedom
    assert -2.5 * whitened.std() / np.sqrt(60) < whitened.mean() < bound
    plain = [dissimilarities(world.mean("repetition"), distance="sqeuclidean").values[upper].mean() for world in worlds]
    assert min(plain) > 0.3  # 2/4 on average


def test_distances_are_relative_to_the_noise():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    signal, noise = rng.normal(size=(30, 1, 6)), rng.normal(size=(30, 40, 6))
    mixed = dissimilarities(repeated((signal + noise) @ mixing))
    # (x − y)ᵀ C⁻¹ (x − y) does not depend on the basis, and in this one C is the identity
    expected = ((signal[:, 0, None] - signal[:, 0]) ** 2).mean(axis=-1)
    assert np.corrcoef(mixed.values[np.triu_indices(30, 1)], expected[np.triu_indices(30, 1)])[0, 1] > 0.95
    assert abs(mixed.values.mean() / expected.mean() - 1) < 0.1
    unaware = dissimilarities(repeated((signal + noise) @ mixing), noise="none")
    assert np.corrcoef(unaware.values[np.triu_indices(30, 1)], expected[np.triu_indices(30, 1)])[0, 1] < 0.9


def test_order_of_stimuli_units_and_repetitions_is_irrelevant():
    responses = repeated(COUNTS)
    found = dissimilarities(responses)
    shuffled = dissimilarities(responses[[3, 0, 4, 1, 2], [2, 0, 1], [1, 3, 0, 2]])
    xr.testing.assert_allclose(shuffled.sel(stimulus=found.stimulus.values, other=found.other.values), found)


def test_coords_of_stimuli_stay_and_dask_gives_the_same():
    responses = repeated(COUNTS).assign_coords(category=("stimulus", list("ababa")))
    found = dissimilarities(responses, noise="none")
    assert found.category.values.tolist() == list("ababa")
    assert found.attrs == {
        "distance": "crossnobis",
        "quantity": "squared Mahalanobis distance per unit, cross-validated",
        "n_units": 4,
        "noise": "none",
    }
    averages = responses.mean("repetition")
    lazy = dissimilarities(averages.chunk({"stimulus": 2}), distance="cosine")
    xr.testing.assert_identical(lazy, dissimilarities(averages, distance="cosine"))


def test_codes_are_compared_as_responses_are():
    responses = repeated(COUNTS)
    xr.testing.assert_identical(dissimilarities(responses.rename(unit="direction")), dissimilarities(responses))


@pytest.mark.parametrize("distance", ["crossnobis", "sqeuclidean", "correlation"])
def test_large_matrices_are_exactly_symmetric(distance):
    noise = repeated(np.random.default_rng(0).normal(size=(301, 2, 33)))
    found = dissimilarities(noise if distance == "crossnobis" else noise[:, 0], distance=distance)
    np.testing.assert_array_equal(found.values, found.values.T)


def test_bad_input_is_named():
    responses = repeated(COUNTS)
    averages = responses.mean("repetition")
    with pytest.raises(ValueError, match="'crossnobis' needs the dim repetition; pass repetitions, or distance='sqeuc"):
        dissimilarities(averages)
    with pytest.raises(ValueError, match=r"call neurosuper.average_repetitions"):
        dissimilarities(responses, distance="cosine")
    with pytest.raises(ValueError, match="distance must be one of 'crossnobis', "):
        dissimilarities(averages, distance="euclidean")
    with pytest.raises(ValueError, match=r"stimulus 's002' has fewer than 2 repetitions"):
        dissimilarities(
            responses.where((responses.stimulus != "s002") | (xr.DataArray(range(3), dims="repetition") < 1))
        )
    with pytest.raises(ValueError, match="'u1' has no noise over repetitions"):
        dissimilarities(responses.where(responses.unit != "u1", 3.0))
    with pytest.raises(ValueError, match="got negative responses"):
        dissimilarities(averages - 10, distance="poisson")
    with pytest.raises(ValueError, match="'s001' are the same in all units, so 'correlation' is not defined"):
        dissimilarities(averages.where(averages.stimulus != "s001", 3.3), distance="correlation")
    with pytest.raises(ValueError, match="units lack different repetitions"):
        dissimilarities(responses.where((responses.unit != "u1") | (xr.DataArray(range(3), dims="repetition") < 2)))


def test_a_matrix_beyond_memory_is_refused(monkeypatch):
    monkeypatch.setattr("neurosuper.comparison.distance_matrices.memory_of_machine", lambda: 500)
    with pytest.raises(ValueError, match="dissimilarities of 5 stimuli take 0 GiB"):
        dissimilarities(repeated(COUNTS))
