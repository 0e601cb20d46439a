"""The toy world has the moments that its docstring derives."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from neurosuper.demo.superposed import superposed
from neurosuper.responses import check_responses


@pytest.fixture(scope="module")
def world():
    return superposed(n_features=40, n_units=10, n_stimuli=20_000, active=0.1, noise=0.5, random_state=2)


def test_responses_are_features_on_their_directions_with_noise(world):
    noise = world.response.values - world.features.values @ world.directions.values
    assert_allclose(noise.std(), 0.5, rtol=0.01)
    assert abs(np.corrcoef(noise.T)[np.triu_indices(10, 1)]).max() < 0.03
    silent = superposed(n_stimuli=50, noise=0)
    assert_allclose(silent.response, silent.features.values @ silent.directions.values)


def test_features_are_sparse_exponential_and_independent(world):
    F = world.features.values
    assert_allclose((F > 0).mean(0), 0.1, atol=0.01)
    assert_allclose([F[F > 0].mean(), F[F > 0].std()], [1, 1], atol=0.03)
    assert abs(np.corrcoef(F.T)[np.triu_indices(40, 1)]).max() < 0.04
    D = world.directions.values
    expected = D.T @ D * (2 * 0.1 - 0.1**2) + 0.5**2 * np.eye(10)
    assert_allclose(np.cov(world.response.T), expected, atol=0.05)


def test_directions_have_unit_length_and_the_cosines_of_the_sphere(world):
    D = superposed(n_features=300, n_units=10, n_stimuli=2).directions.values
    assert_allclose(np.linalg.norm(D, axis=1), 1)
    assert_allclose(((D @ D.T)[np.triu_indices(300, 1)] ** 2).mean(), 1 / 10, rtol=0.03)
    assert (world.directions.direction.values == world.feature.values).all()


def test_the_category_is_the_strongest_feature():
    world = superposed(n_features=3, n_units=2, n_stimuli=60, active=0.3)
    for features, category in zip(world.features, world.category.values, strict=True):
        strongest = str(features.feature.values[features.values.argmax()]) if features.any() else "none"
        assert category == strongest
    assert "none" in world.category


def test_responses_keep_the_contract_and_the_seed_repeats_them(world):
    check_responses(world.response)
    again = superposed(n_features=40, n_units=10, n_stimuli=20_000, active=0.1, noise=0.5, random_state=2)
    assert again.identical(world)
    assert world.attrs == {"active": 0.1, "noise": 0.5, "random_state": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_units": 0}, "n_units must be a whole number of at least 1, got 0"),
        ({"active": 0}, "active must be above 0 and at most 1, such as 0.05; got 0"),
        ({"noise": -1}, "noise must be a standard deviation of at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        superposed(**settings)
