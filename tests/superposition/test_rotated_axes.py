"""Axes that two systems share are told from rotated ones, also relative to the noise of units; others are not."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import kstest

from neurosuper import split_repetitions
from neurosuper.comparison.couplings import couple
from neurosuper.superposition import matched_units, privileged_axes, rotated_axes, soft_matching
from neurosuper.superposition.axes import random_rotation


def label(values, name="u"):
    dims = ("stimulus", "repetition", "unit") if values.ndim == 3 else ("stimulus", "unit")
    names = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"{name}{j}" for j in range(values.shape[-1])],
    }
    return xr.DataArray(values, names, dims)


def test_laplace_sources_in_another_order_are_privileged(rng):
    sources, order = rng.laplace(size=(200, 12)) / 2**0.5, rng.permutation(12)
    a, b = (label(sources[:, at] + 0.2 * rng.normal(size=(200, 12))) for at in (slice(None), order))
    test = privileged_axes(a, b, n_rotations=19, n_resamples=10)
    assert_allclose(test.native, soft_matching(a, b, n_resamples=0).score)
    assert test.native > 0.95  # 1/(1 + 0.2²) = 0.96
    assert 0.3 < test.rotated.mean() < 0.5
    assert test.rotated.max() < 0.6
    assert test.p_value == 0.05
    assert test.difference_low > 0.4
    assert_allclose(test.difference, test.native - test.rotated.mean())


def test_gaussian_responses_on_turned_axes_have_a_uniform_p(rng):
    p = []
    for seed in range(40):
        sources = rng.normal(size=(40, 4))
        b = sources @ random_rotation(4, rng) + 0.5 * rng.normal(size=(40, 4))
        test = privileged_axes(label(sources), label(b), n_rotations=19, n_folds=2, n_resamples=0, random_state=seed)
        p.append(float(test.p_value))
    assert kstest(np.array(p) - rng.uniform(0, 1 / 20, 40), "uniform").pvalue > 0.01


def test_the_ceiling_is_that_of_a_loop_over_rotations_and_splits(rng, monkeypatch):
    monkeypatch.setattr(rotated_axes, "N_SPLITS", 2)
    signal = rng.normal(size=(60, 4))
    a = label(signal[:, None] + rng.normal(size=(60, 4, 4)))
    b = label(signal[:, None, :3] + 0.5 * rng.normal(size=(60, 2, 3))).isel(unit=[2, 0, 1])
    b = xr.concat([b, b[..., :1].assign_coords(unit=["w"]) * [1]], "unit")
    found = privileged_axes(a, b, n_rotations=19, n_folds=2, n_resamples=0, random_state=3)
    draws = np.random.default_rng([3, 1])
    rotations = [np.eye(4), *(random_rotation(4, draws) for _ in range(19))]
    rows = matched_units.number_folds(np.arange(60), 2, 3)

    def reliability(responses, Q):
        sums = 0  # of products, over splits of the repetitions
        for seed in (3, 4):
            first, second = (
                (half - half.mean("stimulus")).values @ Q for half in split_repetitions(responses, random_state=seed)
            )
            sums = sums + np.array([(first**2).sum(0), (second**2).sum(0), (first * second).sum(0)])
        r = sums[2] / np.sqrt(sums[0] * sums[1])
        return 2 * r / (1 + r)

    ceilings, scores = [], []
    A, B = (system.mean("repetition").values for system in (a, b))
    for Q in rotations:
        T = [couple(1 - np.corrcoef((A[rows != k] @ Q).T, B[rows != k].T)[:4, 4:], 1.0) for k in (0, 1)]
        rho = np.sqrt(np.outer(reliability(a, Q), reliability(b, np.eye(4))))
        ceilings.append((np.mean(T, axis=0) * rho).sum())
        r = [np.corrcoef((A[rows == k] @ Q).T, B[rows == k].T)[:4, 4:] for k in (0, 1)]
        scores.append(np.mean([(t * each).sum() for t, each in zip(T, r, strict=True)]))
    assert_allclose([found.noise_ceiling, *found.noise_ceiling_rotated], ceilings)
    assert_allclose([found.native_ceiled, *found.rotated_ceiled], np.divide(scores, ceilings))
    assert_allclose(found.difference_ceiled, found.native_ceiled - found.rotated_ceiled.mean())
    assert_allclose([found.native, *found.rotated], scores)
    averaged = privileged_axes(
        a.mean("repetition"), b.mean("repetition"), n_rotations=19, n_folds=2, n_resamples=0, random_state=3
    )
    assert_allclose(averaged.rotated, found.rotated)
    assert "native_ceiled" not in averaged


def test_units_of_unequal_noise_look_privileged_but_not_relative_to_their_ceilings():
    """Rotated units share the noise of all, and by Jensen's inequality have a lower mean reliability."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(200, 6))
    noisy = label(signal[:, None] + np.repeat([0.2, 4], 3) * rng.normal(size=(200, 4, 6)))
    found = privileged_axes(noisy, label(signal @ random_rotation(6, rng)), n_rotations=19, n_folds=2, n_resamples=10)
    assert found.p_value == 0.05
    assert found.p_value_ceiled > 0.05
    assert found.noise_ceiling > found.noise_ceiling_rotated.max()
    assert found.difference_ceiled_low < found.difference_ceiled < found.difference_ceiled_high


def test_shared_axes_reach_their_ceiling_and_rotated_ones_do_not(rng):
    sources = rng.laplace(size=(150, 1, 6))
    a, b = (label(sources + np.repeat([0.3, 2], 3) * rng.normal(size=(150, 4, 6)), name) for name in "uv")
    found = privileged_axes(a, b, n_rotations=19, n_resamples=20)
    assert_allclose(found.native_ceiled, 1, atol=0.05)
    assert found.native < 0.9
    assert found.rotated_ceiled.max() < 0.8
    assert found.difference_ceiled_low > 0.2
    assert found.p_value_ceiled == 0.05


def test_repetitions_without_signal_have_no_ceiling(rng):
    noise = np.concatenate([signal := rng.normal(size=(60, 1, 2)), -signal], 1)
    with pytest.raises(
        ValueError, match="repetitions have no signal in common, so that the noise ceiling is 0; pass av"
    ):
        privileged_axes(
            label(noise + 0.1 * rng.normal(size=noise.shape)), label(rng.normal(size=(60, 2))), n_rotations=19
        )


def test_one_unit_has_no_rotation(rng):
    a = label(rng.normal(size=(40, 1)))
    with pytest.raises(ValueError, match="a rotation needs at least 2 items of the first system, got 1"):
        privileged_axes(a, a)
    with pytest.raises(ValueError, match="n_rotations must be a whole number of at least 19, which allow p = 0.05"):
        privileged_axes(a, a, n_rotations=9)
