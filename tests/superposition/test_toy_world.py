"""In the toy world, every measure has the value that the docstring of `superposed` derives."""

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import KMeans, Precomputed, interpretability_index
from neurosuper.comparison import contrast_systems
from neurosuper.demo.superposed import superposed
from neurosuper.superposition import (
    axis_alignment,
    between_directions,
    clustered_apart,
    interference,
    privileged_axes,
    rotate_units,
    rotation_curve,
    soft_matching,
    sparseness,
    sparsify,
    sparsity_curve,
    spectrum,
    synergy,
    weight_interference,
)

K, d, n, a = 60, 20, 6000, 0.1  # features, units, stimuli, probability of a feature
m, v = a, 2 * a - a**2  # mean and variance of a feature
k4 = 24 * a - 4 * 6 * a * a - 3 * (2 * a) ** 2 + 12 * 2 * a * a**2 - 6 * a**4  # its fourth cumulant


@pytest.fixture(scope="module")
def world():
    return superposed(K, d, n, active=a, random_state=4)


@pytest.fixture(scope="module")
def features_seen():
    """Features as units, and images that are alike if the strongest feature is the same."""
    world = superposed(8, 4, 1500, active=0.015, random_state=1)
    names, strongest = world.stimulus.values, world.category.values
    table = xr.DataArray(strongest[:, None] != strongest, {"stimulus": names, "other": names}, ("stimulus", "other"))
    images = xr.DataArray(
        np.zeros((1500, 1, 1, 3), np.uint8), {"stimulus": names}, ("stimulus", "row", "column", "channel")
    )
    units = xr.DataArray(world.features.values, {"stimulus": names, "unit": world.feature.values}, ("stimulus", "unit"))
    axes = xr.DataArray(np.eye(8), {"direction": world.feature.values, "unit": units.unit}, ("direction", "unit"))
    return units, images, Precomputed(table.astype(float)), axes


def with_noise(world, sd, seed):
    return world.response + sd * np.random.default_rng(seed).normal(size=world.response.shape)


def test_directions_interfere_as_vectors_on_a_sphere(world):
    found = interference(world.directions, codes=world.features.rename(feature="direction"), n_resamples=20)
    assert_allclose(found.interference.mean(), (K - 1) / d, rtol=0.1)
    assert_allclose(found.frame_potential, (d + K - 1) / K, rtol=0.05)
    assert found.cofiring_low < 1 < found.cofiring_high


def test_the_spectrum_is_that_of_the_covariance_of_features(world):
    D = world.directions.values
    found = spectrum(world.response, fit=(1, 20), n_resamples=0)
    assert_allclose(found.variance, np.linalg.eigvalsh(v * D.T @ D)[::-1], rtol=0.1)
    assert_allclose(found.participation_ratio, K * d / (d + K - 1), rtol=0.05)
    repeated = xr.concat([with_noise(world, 0.5, seed) for seed in (0, 1)], "repetition")
    repeated = repeated.transpose("stimulus", "repetition", "unit")
    without_noise = spectrum(repeated, fit=(1, 20), n_splits=1, n_resamples=0).variance.sum()
    assert_allclose(without_noise, v * K, rtol=0.03)  # not + d/4, the variance of the noise
    assert_allclose(spectrum(repeated[:, 0], fit=(1, 20), n_resamples=0).variance.sum(), v * K + d / 4, rtol=0.03)


def test_features_are_sparse_and_units_less_so_on_any_axes(world):
    assert_allclose(sparseness(world.features).mean(), 1 - a / 2, atol=0.003)
    assert_allclose(sparseness(world.features, measure="active").mean(), a, atol=0.003)
    Q = rotate_units(
        xr.DataArray(np.eye(d), {"stimulus": world.unit.values, "unit": world.unit.values}, ("stimulus", "unit")), 0.7
    )
    turned = rotate_units(world.response, 0.7)
    for codes, axes in ((world.response, np.eye(d)), (turned, Q.values)):
        W = world.directions.values @ axes  # codes are Σ f w, whose cumulants add up
        expected = k4 * (W**4).sum(0) / (v * (W**2).sum(0)) ** 2
        assert_allclose(sparseness(codes, measure="kurtosis").mean(), expected.mean(), rtol=0.1)


def test_directions_need_as_many_units_as_on_a_sphere(world):
    assert_allclose((1 / axis_alignment(world.directions).n_units_needed).mean(), 3 / (d + 2), rtol=0.1)


def test_two_noisy_copies_of_the_population_match_as_well_as_noise_allows(world):
    copies = [with_noise(world, 1.0, seed)[:1500] for seed in (0, 1)]
    signal = v * (world.directions**2).sum("direction")
    expected = (signal / (signal + 1)).mean()
    found = soft_matching(copies[0], copies[1][:, ::-1], n_resamples=20)
    assert found.score_low < expected < found.score_high
    repeated = xr.concat([with_noise(world, 1.0, seed)[:1500] for seed in (0, 1)], "repetition")
    repeated = repeated.transpose("stimulus", "repetition", "unit")
    axes = privileged_axes(repeated, world.response[:1500], n_rotations=19, n_folds=2, n_resamples=0)
    assert_allclose(axes.noise_ceiling, ((signal / (signal + 0.5)) ** 0.5).mean(), rtol=0.05)
    assert_allclose(axes.native_ceiled, 1, atol=0.03)
    assert axes.rotated_ceiled.max() < 0.9


def test_half_of_the_weights_keep_most_of_a_direction():
    D = superposed(200, 200, 2).directions
    # of a Gaussian, the half above q = 0.674 has 2 (q φ(q) + ¼) = 0.929 of the squares
    assert_allclose((sparsify(D, 0.5)[0] ** 2).sum("unit").mean(), 0.929, atol=0.003)


def test_features_that_are_units_need_one_unit_each(features_seen):
    units, images, metric, _ = features_seen
    curve = sparsity_curve(KMeans(8, normalize=True), units, images, metric, keep=[1, 0.125], n_resamples=20)
    assert_allclose(curve.cosine[1], 1, atol=0.05)
    assert curve.change_low[1] <= 0 <= curve.change_high[1]


def test_a_feature_shows_one_thing_and_the_sum_of_two_shows_two(features_seen):
    units, images, metric, axes = features_seen
    assert_allclose(interpretability_index(units, images, metric).mean(), 0, atol=0.03)
    found = synergy(units, images, metric, score_on="all", n_resamples=19)
    # two of the top stimuli have the same feature with probability ½: index −½, against 0
    assert found.mean_synergy_low < -0.5 < found.mean_synergy_high
    between = between_directions(axes, axes, images, metric, units, n_steps=3, n_resamples=20)
    assert between.mean_dip_low < 0.5 < between.mean_dip_high
    assert_allclose([found.mean_synergy, -between.mean_dip], -0.5, atol=0.1)


def test_rotated_features_show_several_things(features_seen):
    curve = rotation_curve(*features_seen[:3], amounts=(0, 1), n_resamples=20)
    assert_allclose(curve.interpretability[0], 0, atol=0.03)
    assert curve.mean_difference_high[1] < -0.2


def test_no_feature_is_more_interpretable_than_another(features_seen):
    units, images, metric, _ = features_seen
    test = contrast_systems(clustered_apart(units, images, metric, finder=KMeans(2))).sel(test=0)
    assert test.difference_low <= 0 <= test.difference_high


def test_weights_on_these_directions_interfere_as_they_do(world):
    layer = torch.nn.Linear(d, K, bias=False)
    layer.weight.data = torch.from_numpy(world.directions.values)
    found = weight_interference(torch.nn.Sequential(layer), "0")
    assert_allclose(found**2, interference(world.directions).interference)
    assert_allclose(found.chance_level**2, (K - 1) / d)
