"""Similarities of dissimilarities, and noise ceilings, are those of rsatoolbox; tests hold their level."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.spatial.distance import squareform

from neurosuper.comparison import cka, dissimilarities, rsa

# pairs of 8 stimuli: three subjects, and a system
PAIRS = [
    [9, 10, 15, 19, 1, 3, 16, 19, 5, 6, 17, 9, 6, 16, 5, 8, 13, 11, 2, 1, 17, 15, 16, 11, 16, 7, 9, 15],
    [3, 6, 3, 9, 19, 3, 8, 8, 18, 4, 10, 5, 1, 15, 2, 6, 10, 10, 3, 19, 15, 19, 2, 14, 6, 11, 18, 6],
    [14, 4, 7, 19, 9, 10, 6, 3, 9, 12, 9, 15, 7, 12, 15, 18, 9, 1, 14, 11, 17, 9, 7, 2, 9, 13, 15, 17],
    [5, 12, 16, 5, 7, 16, 12, 10, 13, 10, 19, 15, 2, 3, 11, 16, 2, 13, 15, 15, 17, 4, 11, 16, 7, 4, 10, 2],
]
# By rsatoolbox 0.3.2, of these: the mean of compare(), and boot_noise_ceiling().
RSATOOLBOX = {
    "rho-a": (-0.057744937055281886, -0.04597701149425287, 0.5398649881408503),
    "spearman": (-0.058243172793087605, -0.046265968713995194, 0.542334822954396),
    "pearson": (-0.10134931377460361, -0.07976841591276508, 0.5446033234215998),
    "cosine": (0.7639933004988997, 0.8108463041435946, 0.9167696322075759),
    "tau-a": (-0.037037037037037035, -0.02821869488536155, 0.38095238095238093),
    "whitened-cosine": (0.2646993120152419, 0.3846296162553619, 0.7350434736135024),
}


def matrix(pairs) -> xr.DataArray:
    d = squareform(np.asarray(pairs, float))
    labels = [f"s{i}" for i in range(len(d))]
    return xr.DataArray(d, {"stimulus": labels, "other": labels}, ("stimulus", "other"))


def system(values, unit="u") -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"{unit}{i}" for i in range(values.shape[1])],
    }
    return xr.DataArray(values, coords, ("stimulus", "unit"))


def distances(values) -> xr.DataArray:
    return dissimilarities(system(values), distance="sqeuclidean")


FAST = {"n_permutations": 19, "n_resamples": 0}


@pytest.mark.parametrize("similarity", RSATOOLBOX)
def test_values_and_ceilings_of_rsatoolbox(similarity):
    *subjects, other = map(matrix, PAIRS)
    found = rsa(xr.concat(subjects, "subject"), other, similarity=similarity, **FAST)
    names = ("estimate", "ceiling_low", "ceiling_high")
    np.testing.assert_allclose([found[name] for name in names], RSATOOLBOX[similarity], rtol=1e-10)


def test_rank_correlations_are_those_of_scipy():
    a, b = matrix(PAIRS[0]), matrix(PAIRS[1])
    found = float(rsa(a, b, similarity="spearman", **FAST).estimate)
    np.testing.assert_allclose(found, stats.spearmanr(PAIRS[0], PAIRS[1]).statistic)


def test_rho_a_is_the_mean_over_orders_of_equal_dissimilarities():
    rng, x = np.random.default_rng(0), np.array(PAIRS[0])
    coarse = x // 7
    orders = [stats.spearmanr(x + 0.1 * rng.random(28), coarse + 0.1 * rng.random(28)).statistic for _ in range(800)]
    found = float(rsa(matrix(x), matrix(coarse), **FAST).estimate)
    assert abs(found - np.mean(orders)) < 4 * np.std(orders) / np.sqrt(800)


def test_whitened_cosine_is_cka():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 5)), rng.normal(size=(30, 7))
    found = rsa(distances(a), distances(b), similarity="whitened-cosine", **FAST)
    np.testing.assert_allclose(found.estimate, cka(system(a), system(b), debias="none", **FAST).estimate)


@pytest.mark.parametrize("similarity", ["rho-a", "tau-a", "whitened-cosine"])
def test_several_systems_are_rows_with_adjusted_p(similarity):
    rng = np.random.default_rng(0)
    brain = rng.normal(size=(25, 20))
    others = {"same": distances(brain), "noisy": distances(brain + rng.normal(size=brain.shape))}
    others["other"] = distances(rng.normal(size=brain.shape))  # p is only uniform
    found = rsa(distances(brain), others, similarity=similarity, n_permutations=99, n_resamples=10)
    assert found.system.values.tolist() == list(others)
    np.testing.assert_allclose(found.estimate[0], 1)
    assert (found.estimate.diff("system") < 0).all()
    assert found.p_value.values[:2].tolist() == [0.01, 0.01]
    assert found.p_adjusted.values[:2].tolist() == pytest.approx([0.015, 0.015])
    assert (found.estimate_low <= found.estimate).all()
    assert "ceiling_low" not in found


def test_without_permutations_there_is_no_p():
    a, b = matrix(PAIRS[0]), matrix(PAIRS[1])
    found = rsa(a, {"b": b, "a": a}, n_permutations=0, n_resamples=0)
    assert list(found) == ["estimate", "n_stimuli"]
    np.testing.assert_array_equal(found.estimate, rsa(a, {"b": b, "a": a}, **FAST).estimate)
    with pytest.raises(ValueError, match="n_permutations must be a whole number of at least 19.*; 0 computes none"):
        rsa(a, b, n_permutations=18)


def test_stimuli_are_joined_by_label_in_any_order():
    rng = np.random.default_rng(0)
    a, b = (distances(rng.normal(size=(20, 6))) for _ in range(2))
    order = rng.permutation(20)
    expected = rsa(a, b, **FAST).estimate
    np.testing.assert_allclose(rsa(a, b[order][:, order], **FAST).estimate, expected)
    with pytest.warns(UserWarning, match="left out"):
        fewer = rsa(a, b[order[:15]][:, order[:15]], **FAST)
    assert fewer.attrs["n_stimuli"] == 15


@pytest.mark.slow
def test_p_is_uniform_for_independent_systems():
    rng = np.random.default_rng(0)
    p = [rsa(*(distances(rng.normal(size=(12, 5))) for _ in range(2)), **FAST).p_value.item() for _ in range(150)]
    spread = np.array(p) - rng.uniform(0, 0.05, 150)
    assert stats.kstest(spread, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_intervals_cover_the_mean_over_studies():
    estimates, limits = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        signal = rng.normal(size=(40, 5))
        a, b = (distances(signal + rng.normal(size=signal.shape)) for _ in range(2))
        found = rsa(a, b, n_permutations=19, n_resamples=20)
        estimates.append(found.estimate.item())
        limits.append((found.estimate_low.item(), found.estimate_high.item()))
    low, high = np.array(limits).T
    covered = ((low <= np.mean(estimates)) & (np.mean(estimates) <= high)).mean()
    assert 0.9 <= covered <= 0.99


def test_bad_input_is_named():
    a, b = matrix(PAIRS[0]), matrix(PAIRS[1])
    with pytest.raises(
        TypeError, match="a must be a DataArray from neurosuper.comparison.dissimilarities, got ndarray"
    ):
        rsa(a.values, b)
    with pytest.raises(ValueError, match=r"a must have the dims \('stimulus', 'other'\)"):
        rsa(system(np.eye(9)), b)
    with pytest.raises(ValueError, match="7 common stimuli are too few; use at least 8"):
        rsa(a[:7, :7], b[:7, :7], **FAST)
    with pytest.raises(ValueError, match="all dissimilarities of net are the same"):
        rsa(a, {"net": matrix(np.ones(28))}, **FAST)
    with pytest.raises(ValueError, match="a must be finite and symmetric"):
        rsa(a.where(a.stimulus != "s3"), b)
    with pytest.raises(ValueError, match="no stimulus label in common"):
        rsa(a, b.assign_coords(stimulus=b.stimulus.str.upper(), other=b.other.str.upper()))
    with pytest.raises(ValueError, match="similarity must be one of 'rho-a'"):
        rsa(a, b, similarity="kendall")
    with pytest.raises(ValueError, match="no stimulus coord 'burst'"):
        rsa(a, b, stimulus_groups="burst", n_permutations=19, n_resamples=10)
    copies = a.assign_coords(content=("stimulus", ["0" * 32] * 2 + [f"{i:032x}" for i in range(1, 7)]))
    with pytest.raises(ValueError, match="'s0', 's1' show the same photograph; average over copies first"):
        rsa(copies, b, **FAST)
