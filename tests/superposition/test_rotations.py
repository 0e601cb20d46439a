"""The index of rotated axes is that of `rotate_units`, falls if units are privileged, and stays if no axis is."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from neurosuper import interpretability_index, normalize
from neurosuper.superposition import rotate_units, rotation_curve

FEW = {"n_resamples": 10}


@pytest.fixture(scope="module")
def sparse(label_world):
    """Each stimulus shows one of 8 things, and each unit responds to one of them."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 8, 160)
    return label_world(np.eye(8)[features] + 0.1 * rng.random((160, 8)), features)


@pytest.fixture(scope="module")
def gaussian(label_world):
    """Each stimulus shows what the last two of 8 Gaussian axes say, on no axis more than on others."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(300, 8))
    angle = np.arctan2(*values[:, :2].T)
    return label_world(values, np.floor(8 * angle).astype(int))


@pytest.fixture(scope="module")
def curve(sparse):
    return rotation_curve(*sparse, n_resamples=50, random_state=3)


def test_each_value_is_the_mean_index_of_rotated_units(sparse, curve):
    responses, images, metric = sparse
    scaled = normalize(responses, "zscore")
    for amount in (0.25, 1):
        for rotation in (0, 7):
            codes = rotate_units(scaled, amount, random_state=3 + rotation)
            index = interpretability_index(codes, images, metric, random_state=3).mean()
            assert_allclose(curve.interpretability.sel(amount=amount, rotation=rotation), index, atol=1e-6)
    units = interpretability_index(scaled, images, metric, random_state=3).mean()
    assert_allclose(curve.interpretability.sel(amount=0), units, atol=1e-6)


def test_the_curve_is_paired_with_the_units(curve):
    assert_allclose(curve.difference, curve.interpretability - curve.interpretability[0])
    assert_allclose(curve.mean_difference, curve.difference.mean("rotation"))
    assert (curve.mean_difference_low <= curve.mean_difference).all()
    assert (curve.mean_difference[0], curve.mean_difference_high[0], curve.p_value[0]) == (0, 0, 1)
    above = (curve.interpretability >= curve.interpretability[0]).sum("rotation")
    assert_allclose(curve.p_value, (1 + above) / 20)


def test_units_that_each_code_one_thing_are_more_interpretable_than_rotated_axes(curve):
    assert curve.p_value[-1] == 0.05
    assert curve.mean_difference_high[-1] < 0
    assert (curve.mean_difference[1:].diff("amount") < 0.02).all()


def test_axes_of_a_gaussian_population_are_as_interpretable_as_its_units(gaussian):
    curve = rotation_curve(*gaussian, amounts=(0, 1), n_resamples=50)
    assert curve.p_value[-1] > 0.05
    assert curve.mean_difference_low[-1] < 0 < curve.mean_difference_high[-1]


def test_neither_scale_nor_order_of_units_and_stimuli_matters(sparse):
    responses, images, metric = sparse
    few = {"amounts": (0, 0.5), "top": 3, **FEW}
    expected = rotation_curve(responses, images, metric, **few)
    other = responses[::-1, ::-1] * (1 + np.arange(8.0)) + 5
    assert_allclose(rotation_curve(other, images, metric, **few).interpretability, expected.interpretability, atol=1e-6)
    lazy = responses.chunk(stimulus=50)
    assert rotation_curve(lazy, images[::-1], metric, **few).identical(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amounts": (0.1, 1)}, r"^amounts must increase from 0 \(the units\) to at most 1 \(a random rotation\), got"),
        ({"amounts": (0, 1, 0.5)}, "^amounts must increase from 0"),
        ({"amounts": (0, 1.5)}, "^amounts must increase from 0"),
        ({"amounts": 0.5}, "^amounts must be at least 2 numbers"),
        ({"n_rotations": 10}, "n_rotations must be .* 19"),
        ({"top": 81}, "top must be .*80"),
        ({"n_resamples": 2}, "n_resamples must be"),
    ],
)
def test_settings_out_of_range_are_refused(change, message, sparse):
    with pytest.raises(ValueError, match=message) as caught:
        rotation_curve(*sparse, **change)
    assert "\n" not in str(caught.value)


def test_a_single_unit_and_constant_units_are_refused(sparse):
    responses, images, metric = sparse
    with pytest.raises(ValueError, match="^a rotation needs at least 2 units, got 1$"):
        rotation_curve(responses[:, :1], images, metric)
    with pytest.raises(ValueError, match="zero variance .*u003"):
        rotation_curve(responses.where(responses.unit != "u003", 1), images, metric)
