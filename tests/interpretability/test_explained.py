import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from neurosuper import Color, interpretability_index, load_images
from neurosuper.interpretability import chance_level, explained_by, image_statistics
from neurosuper.interpretability.explained import _folds


@pytest.fixture
def statistics(rng):
    """Three statistics of 120 stimuli, on very different scales, and one that is the same for all."""
    columns = dict(zip("abc", rng.normal(size=(3, 120)) * [[1e-6], [1], [1e6]] + [[0], [50], [1e7]], strict=True))
    columns |= {"constant": np.full(120, 0.1)}
    return xr.Dataset(
        {name: ("stimulus", values) for name, values in columns.items()},
        coords={"stimulus": [f"s{i:04d}" for i in range(120)]},
    )


@pytest.fixture
def grey(rng):
    """300 images of random grey, with a little noise."""
    shade = rng.integers(20, 236, (300, 1, 1, 1))
    return load_images((shade + rng.integers(-10, 11, (300, 16, 16, 3))).astype(np.uint8))


@pytest.mark.parametrize("n_splits", [2, 5, 7])
def test_equals_cross_validated_regression_of_sklearn(responses, statistics, n_splits):
    responses = responses + 3 * statistics.a * 1e6 * xr.ones_like(responses.unit, float)
    ours = explained_by(responses, statistics, n_splits=n_splits)
    folds = PredefinedSplit(_folds(np.arange(120), n_splits, 4, 0))
    X = statistics.drop_vars("constant").to_dataarray().values.T
    X = (X - X.mean(0)) / X.std(0)  # so that sklearn, too, keeps its digits
    for unit in responses.unit.values:
        z = responses.sel(unit=unit).values
        predicted = cross_val_predict(LinearRegression(), X, z, cv=folds)
        assert_allclose(ours.residual.sel(unit=unit), z - predicted, rtol=1e-6, atol=1e-8)
        assert_allclose(ours.r2.sel(unit=unit), r2_score(z, predicted), rtol=1e-8)


def test_folds_have_equal_sizes_and_copies_are_together():
    photographs = np.arange(100).repeat(2)
    fold = _folds(photographs, 5, 1, 0)
    assert np.bincount(fold).tolist() == [40] * 5
    assert (fold[::2] == fold[1::2]).all()


def test_copies_of_one_photograph_do_not_predict_each_other(rng):
    """With two copies of each, residuals are those of the photographs alone; without `content`, r² is much larger."""
    labels = {"stimulus": [f"s{i}" for i in range(120)]}
    content = {"content": ("stimulus", [f"{i:032x}" for i in range(60) for _ in (0, 1)])}
    units = {"unit": [f"u{i}" for i in range(200)]}
    values = rng.normal(size=(60, 220)).repeat(2, axis=0)
    statistics = xr.Dataset({f"x{i}": ("stimulus", values[:, i]) for i in range(20)}, coords=labels)
    codes = xr.DataArray(values[:, 20:], dims=("stimulus", "unit"), coords=labels | units)
    known = explained_by(codes.assign_coords(content), statistics)
    alone = explained_by(codes[::2], statistics.isel(stimulus=slice(None, None, 2)))
    assert_allclose(known.residual[::2], alone.residual, atol=1e-9)
    assert known.r2.mean() < explained_by(codes, statistics).r2.mean() - 0.5


def test_codes_that_are_luminance_are_explained_and_their_residual_is_at_chance(grey, rng):
    statistics = image_statistics(grey)
    noise = rng.normal(size=(300, 40))
    luminance = statistics.luminance.values
    codes = xr.DataArray(
        luminance[:, None] + 0.02 * luminance.std() * noise,
        dims=("stimulus", "unit"),
        coords={"stimulus": grey.stimulus, "unit": [f"u{i}" for i in range(40)]},
    )
    ours = explained_by(codes, statistics)
    assert (ours.r2 > 0.998).all()
    chance = chance_level(grey, Color())
    before, after = (interpretability_index(each, grey, Color()) for each in (codes, ours.residual))
    se = float(chance.sampled_sd) / 40**0.5
    assert before.mean() > chance.interpretability + 20 * se
    assert abs(after.mean() - chance.interpretability) < 3 * se


def test_codes_that_are_independent_of_statistics_are_not_explained(make_responses, statistics, rng):
    r2 = explained_by(make_responses(rng.normal(size=(120, 200))), statistics).r2
    assert r2.mean() + 2 * r2.std() / 200**0.5 < 0
    assert r2.mean() > -0.1


def test_a_planted_share_is_recovered(make_responses, statistics, rng):
    """Half of the variance is a sum of two statistics."""
    signal = (statistics.b - 50 + (statistics.c - 1e7) / 1e6).values / 2**0.5
    r2 = explained_by(make_responses(signal[:, None] + rng.normal(size=(120, 200))), statistics).r2
    share = signal.var() / (signal.var() + 1)
    assert_allclose(r2.mean(), share, atol=0.05)


def test_labels_coords_and_settings_are_kept(responses, statistics):
    responses = responses.assign_coords(area=("unit", ["V4"] * 8), category=("stimulus", ["x"] * 120))
    ours = explained_by(responses, statistics.isel(stimulus=slice(None, None, -1)), random_state=3)
    assert ours.residual.dims == ("stimulus", "unit")
    assert {"area", "category"} <= set(ours.coords)
    assert ours.attrs["statistics"] == ["a", "b", "c", "constant"]
    assert (ours.attrs["n_splits"], ours.attrs["random_state"]) == (5, 3)
    xr.testing.assert_identical(ours, explained_by(responses, statistics, random_state=3))
    assert not ours.r2.equals(explained_by(responses, statistics, random_state=4).r2)


def test_gaps_and_too_few_stimuli_are_refused_with_a_remedy(responses, statistics):
    gap = statistics.b.where(statistics.stimulus != "s0003")
    with pytest.raises(ValueError, match="statistic 'b' is NaN or infinite for stimulus 's0003'; drop the statistic"):
        explained_by(responses, statistics.assign(b=gap))
    with pytest.raises(ValueError, match="codes of stimulus 's0005' are NaN or infinite"):
        explained_by(responses.where(responses.stimulus != "s0005"), statistics)
    with pytest.raises(ValueError, match="statistic 'name' must be numbers"):
        explained_by(responses, statistics.assign(name=("stimulus", ["x"] * 120)))
    with pytest.raises(ValueError, match="6 photographs are too few for 5 folds and 4 statistics"):
        explained_by(responses[:6], statistics)
    with pytest.raises(ValueError, match="n_splits must be a whole number of at least 2, got 1"):
        explained_by(responses, statistics, n_splits=1)
    with pytest.raises(ValueError, match="statistics must be a Dataset with a variable, got"):
        explained_by(responses, statistics[[]])
