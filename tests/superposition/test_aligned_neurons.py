"""Alignment is that of the lasso's weights, finds planted partners, and is that of rotated codes if there are none."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import entropy
from sklearn.linear_model import Lasso

from neurosuper.superposition import alignment
from neurosuper.superposition.aligned_neurons import _fit
from neurosuper.superposition.axes import random_rotation
from neurosuper.superposition.factor_predictions import zscored
from neurosuper.superposition.sparse_regression import draw_folds

FAST = {"n_rotations": 0, "n_resamples": 0}


def label(values, dim="unit", name="n"):
    names = {"stimulus": [f"s{i:04d}" for i in range(len(values))], dim: [f"{name}{j}" for j in range(values.shape[1])]}
    return xr.DataArray(values, names, ("stimulus", dim))


@pytest.fixture(scope="module")
def planted():
    """Return codes of Laplace sources, neurons that have one each, and neurons that mix them."""
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(300, 5))
    noise = 0.5 * rng.normal(size=(2, 300, 5))
    return (
        label(sources, "direction", "d"),
        label(sources[:, [3, 1, 4, 0, 2]] * [1, -2, 3, 4, 5] + noise[0]),
        label(sources @ random_rotation(5, rng) + noise[1]),
    )


def test_alignment_is_that_of_the_weights_of_scikit_learn(rng):
    X = rng.normal(size=(80, 4))
    Y = X @ rng.normal(size=(4, 3)) + rng.normal(size=(80, 3))
    is_fit = np.arange(80) < 50
    A, B = zscored(X, is_fit), zscored(Y, is_fit)
    found = _fit(A, B, is_fit, draw_folds(50, rng))
    for j in range(3):
        model = Lasso(found.penalties[j], tol=1e-10).fit(A[is_fit], B[is_fit, j])
        assert_allclose(found.alignment[j], 1 - entropy(np.abs(model.coef_), base=4), atol=1e-6)
        assert_allclose(found.r2[j], model.score(A[~is_fit], B[~is_fit, j]), atol=1e-6)
    best = np.abs(np.corrcoef(X[is_fit].T, Y[is_fit].T)[:4, 4:])
    assert_allclose(
        best[found.item, found.neuron].sum(),
        max(
            best[i, 0] + best[j, 1] + best[k, 2]
            for i in range(4)
            for j in range(4)
            for k in range(4)
            if len({i, j, k}) == 3
        ),
    )
    held = [np.corrcoef(X[~is_fit, i], Y[~is_fit, j])[0, 1] for i, j in zip(found.item, found.neuron, strict=True)]
    assert_allclose(np.abs(found.r), np.abs(held))


def test_planted_partners_are_found_and_a_rotation_of_the_model_loses_them(planted):
    codes, neurons, _ = planted
    found = alignment(codes, neurons, n_rotations=19, n_resamples=10)
    assert found.partner.values.tolist() == ["d3", "d1", "d4", "d0", "d2"]
    assert found.mean_alignment_p_value == found.mean_r_p_value == 0.05
    assert found.mean_alignment_low > found.mean_alignment_null + 0.2
    assert found.mean_alignment_low < found.mean_alignment < found.mean_alignment_high
    assert found.mean_r_low < found.mean_r < found.mean_r_high
    assert (found.r2 > 0.6).all()
    assert (found.r > 0.8).all()


def test_neurons_that_mix_the_axes_are_no_better_aligned_with_them_than_with_rotated_ones(planted):
    codes, _, neurons = planted
    found = alignment(codes, neurons, n_rotations=19, n_resamples=0)
    assert found.mean_alignment_p_value > 0.1
    assert (found.r2 > 0.5).all()


def test_neurons_that_nothing_predicts_do_not_count(planted, rng):
    codes, neurons, _ = planted
    noise = label(rng.normal(size=(300, 3)), name="m")
    both = alignment(codes, xr.concat([neurons, noise], "unit"), **FAST)
    weights = both.r2.clip(0)
    assert (both.r2.sel(unit=noise.unit) < 0.1).all()
    assert_allclose(both.mean_alignment, (both.alignment * weights).sum() / weights.sum())
    assert (both.partner == "").sum() == 3
    assert np.isnan(both.r.values[both.partner == ""]).all()
    with pytest.raises(ValueError, match=r"the model predicts no neuron on scored stimuli \(largest R² "):
        alignment(codes, noise, **FAST)


def test_neither_order_nor_chunks_matter_and_coords_are_kept(planted):
    codes, neurons, _ = planted
    neurons = neurons.assign_coords(area=("unit", list("vwxyz")))
    expected = alignment(codes, neurons, n_rotations=2, n_resamples=10)
    other = alignment(codes[::-1, ::-1].chunk(stimulus=70), neurons[:, ::-1], n_rotations=2, n_resamples=10)
    assert other.area.values.tolist() == list("zyxwv")
    xr.testing.assert_allclose(other.sel(unit=expected.unit), expected)


def test_marks_of_stimuli_are_kept(planted):
    codes, neurons, _ = planted
    split = ("stimulus", np.where(np.arange(300) < 100, "fit", "score"))
    found = alignment(codes, neurons.assign_coords(split=split), **FAST)
    assert found.attrs["n_fit"] == 100
    xr.testing.assert_identical(
        found.drop_attrs(), alignment(codes.assign_coords(split=split), neurons, **FAST).drop_attrs()
    )


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda z: z[:, :1], {}, "alignment needs at least 2 items of the model, got 1"),
        (lambda z: z * [1, 1, 0, 1, 1], {}, "zero variance over stimuli in direction 'd2'"),
        (lambda z: z.where(z > z.min()), {}, "codes contain NaN or infinite values, in direction 'd"),
        (lambda z: z, {"n_rotations": -1}, "n_rotations must be a whole number of at least 0, got -1"),
        (lambda z: z, {"n_resamples": 2}, r"n_resamples must be a whole number of at least 10 \(or 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(planted, change, settings, message):
    codes, neurons, _ = planted
    with pytest.raises(ValueError, match=message) as error:
        alignment(change(codes), neurons, **settings)
    assert "\n" not in str(error.value)


def test_too_few_stimuli_are_refused(planted):
    codes, neurons, _ = planted
    with pytest.raises(ValueError, match="19 common stimuli are too few; use at least 20"):
        alignment(codes[:19], neurons[:19])
