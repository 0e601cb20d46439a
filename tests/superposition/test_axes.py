"""Alignment with units is 1 for units and d for a Hadamard matrix; rotations are powers of rotations, as in scipy."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import linalg, stats

from neurosuper import Random
from neurosuper.inference import compare_with_null
from neurosuper.superposition import axis_alignment, rotate_units
from neurosuper.superposition.axes import rotation_power


def label(values):
    values = np.asarray(values, float)
    names = {"direction": [f"d{i}" for i in range(len(values))], "unit": [f"u{j}" for j in range(values.shape[1])]}
    return xr.DataArray(values, names, ("direction", "unit"))


def test_units_need_one_unit_and_a_hadamard_matrix_all_of_them():
    units, hadamard = axis_alignment(label(-3 * np.eye(8))), axis_alignment(label(linalg.hadamard(8)))
    for found, (n, entropy, largest, share) in ((units, (1, 0, 1, 1)), (hadamard, (8, np.log(8), 1 / 8, 0))):
        assert_allclose(found.n_units_needed, n)
        assert_allclose(found.entropy, entropy, atol=1e-15)
        assert_allclose(found.largest, largest)
        assert found.share_on_units == share
    assert units.largest_unit.values.tolist() == [f"u{j}" for j in range(8)]


def test_alignment_is_that_of_a_loop_over_directions(rng):
    D = label(rng.normal(size=(7, 5)))
    found = axis_alignment(D)
    for direction, row in zip(D.direction.values, D.values, strict=True):
        share = row**2 / (row**2).sum()
        own = found.sel(direction=direction)
        assert_allclose(own.n_units_needed, 1 / (share**2).sum())
        assert_allclose(own.entropy, -(share * np.log(share)).sum())
        assert_allclose(own.largest, share.max())
        assert own.largest_unit == f"u{share.argmax()}"
    assert_allclose(found.share_on_units, np.mean(found.largest > 0.5))


def test_random_directions_need_as_many_units_as_derived(rng):
    found = axis_alignment(label(rng.normal(size=(4000, 10))))
    assert_allclose((1 / found.n_units_needed).mean(), 3 / 12, rtol=0.03)


def test_directions_near_the_units_are_told_from_random_ones(make_responses, rng):
    responses = make_responses(rng.normal(size=(30, 8)))

    def random(D, *, random_state):
        return Random(D.sizes["direction"], random_state=random_state).fit(responses).directions_

    near = label(np.eye(8) + 0.2 * rng.normal(size=(8, 8))).assign_coords(unit=responses.unit.values)
    p = [
        compare_with_null(lambda D: axis_alignment(D).largest.mean(), D, random, n_resamples=19, random_state=1).p_value
        for D in (near, random(near, random_state=300))
    ]
    assert p[0] == 0.05
    assert p[1] > 0.05


@pytest.mark.parametrize("n", [2, 3, 8, 9])
@pytest.mark.parametrize("power", [0.0, 0.3, 0.5, 1.0])
def test_powers_of_a_rotation_are_those_of_scipy(n, power):
    Q = stats.special_ortho_group.rvs(n, random_state=np.random.default_rng(n))
    found = rotation_power(Q, power)
    assert_allclose(found, linalg.fractional_matrix_power(Q, power), atol=1e-8)
    assert_allclose(found @ found.T, np.eye(n), atol=1e-12)
    assert_allclose(rotation_power(found, 1.0), found, atol=1e-12)


def test_half_a_turn_is_a_rotation_of_its_plane():
    half = rotation_power(np.diag([-1.0, 1.0, -1.0]), 0.5)
    assert_allclose(half @ half, np.diag([-1.0, 1.0, -1.0]), atol=1e-12)
    assert_allclose(np.linalg.det(half), 1)


@pytest.mark.parametrize("n_units", [6, 7])
def test_rotated_units_keep_lengths_and_total_variance(make_responses, rng, n_units):
    responses = make_responses(rng.exponential(size=(40, n_units)) * np.arange(1, n_units + 1))
    for amount in (0.25, 1.0):
        turned = rotate_units(responses, amount, random_state=3)
        assert turned.dims == ("stimulus", "direction")
        assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(responses, axis=1))
        assert_allclose(np.trace(np.cov(turned.T)), np.trace(np.cov(responses.T)))
        assert turned.attrs["amount"] == amount
        assert turned.attrs["random_state"] == 3
    assert_allclose(rotate_units(responses, 0).values, responses.values, atol=1e-12)


def test_two_half_rotations_are_one(make_responses, rng):
    responses = make_responses(rng.normal(size=(20, 6)))
    half = rotate_units(responses, 0.5, random_state=2)
    again = rotate_units(half.rename(direction="unit").assign_coords(unit=responses.unit.values), 0.5, random_state=2)
    assert_allclose(again.values, rotate_units(responses, 1, random_state=2).values, atol=1e-10)


def test_a_whole_rotation_is_uniform_over_directions(make_responses):
    responses = make_responses(np.eye(3))
    cosines = [rotate_units(responses, 1, random_state=seed).values[0, 0] for seed in range(100)]
    assert stats.kstest(cosines, stats.uniform(-1, 2).cdf).pvalue > 0.01  # uniform on the sphere in three dimensions


def test_neither_chunks_nor_the_order_of_stimuli_change_a_rotation(make_responses, rng):
    responses = make_responses(rng.normal(size=(20, 5)))
    turned = rotate_units(responses, 0.7)
    lazy = rotate_units(responses[::-1].chunk(stimulus=7), 0.7)
    assert lazy.chunks is not None
    assert_allclose(lazy[::-1].compute(), turned)


@pytest.mark.parametrize("amount", [-0.1, 1.5, "all", True, np.nan])
def test_an_amount_out_of_range_is_refused(make_responses, amount):
    with pytest.raises(ValueError, match=r"amount must be from 0 \(the units\) to 1 \(a random rotation\), got"):
        rotate_units(make_responses(np.eye(3)), amount)


def test_one_unit_cannot_be_rotated(make_responses):
    with pytest.raises(ValueError, match="a rotation needs at least 2 units, got 1"):
        rotate_units(make_responses(np.eye(3)[:, :1]), 0.5)
