"""Shared spaces equal naive implementations, find planted signals on other stimuli, and behave as finders do."""

import pickle

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import orthogonal_procrustes
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from neurosuper import Color, compare
from neurosuper.comparison import SharedSpace, by_subject, concatenate_systems
from neurosuper.comparison.shared_maps import PENALTIES

METHODS = ("procrustes", "srm", "ridge")
methods = pytest.mark.parametrize("method", METHODS)


def system(values: np.ndarray) -> xr.DataArray:
    coords = {"stimulus": [f"s{i:04d}" for i in range(len(values))], "unit": [f"u{i}" for i in range(values.shape[1])]}
    return xr.DataArray(values, coords, ("stimulus", "unit"), attrs={"units": "spikes/s"})


def planted(n_stimuli: int, sizes=(20, 30, 12), noise=0.5, seed=0, shared=True) -> xr.DataArray:
    """Return three subjects whose units mix the same 4 signals, or signals of their own."""
    rng = np.random.default_rng(seed)
    signals = [rng.gamma(1, size=(n_stimuli, 4)) for _ in sizes]
    mixed = [
        signal @ np.linalg.qr(rng.normal(size=(n, 4)))[0].T + noise * rng.normal(size=(n_stimuli, n)) / np.sqrt(n)
        for signal, n in zip([signals[0]] * 3 if shared else signals, sizes, strict=True)
    ]
    return concatenate_systems(
        {name: system(5 + 10**i * R) for i, (name, R) in enumerate(zip("ABC", mixed, strict=True))}
    )


def scaled(both: xr.DataArray) -> list[np.ndarray]:
    """Return centred responses of each subject, of unit norm."""
    centred = [part.values - part.values.mean(0) for part in by_subject(both).values()]
    return [X / np.linalg.norm(X) for X in centred]


def agreement(space: SharedSpace, held_out: xr.DataArray) -> np.ndarray:
    """Return the correlation of the codes of the first two subjects, direction by direction."""
    first, second, _ = (space.transform(part).values for part in by_subject(held_out).values())
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(first.T, second.T, strict=True)])


def naive_srm(X: list[np.ndarray], n: int, seed: int, n_iterations: int = 200) -> float:
    """Return the share of variance that is left by the deterministic shared response model from a random start."""
    rng = np.random.default_rng(seed)
    W = [np.linalg.qr(rng.normal(size=(x.shape[1], n)))[0] for x in X]
    for _ in range(n_iterations):
        S = np.mean([x @ w for x, w in zip(X, W, strict=True)], axis=0)
        for i, x in enumerate(X):
            U, _, V = np.linalg.svd(x.T @ S, full_matrices=False)
            W[i] = U @ V
    S = np.mean([x @ w for x, w in zip(X, W, strict=True)], axis=0)
    return sum(((x - S @ w.T) ** 2).sum() for x, w in zip(X, W, strict=True)) / sum((x**2).sum() for x in X)


@pytest.mark.parametrize("n_stimuli", [300, 40])  # more stimuli than units, and fewer
def test_srm_is_at_least_as_good_as_a_naive_one_from_random_starts(n_stimuli):
    both = planted(n_stimuli, noise=2)
    space = SharedSpace(3, method="srm", dtype="float64").fit(both)
    X = scaled(both)
    assert space.objective_ <= min(naive_srm(X, 3, seed) for seed in range(3)) + 1e-7
    W = (space.directions_ * space.lengths_).T
    maps = [
        part.values * np.linalg.norm(part_of - part_of.mean(0)) / np.sqrt(n_stimuli)
        for part, part_of in zip(
            by_subject(W.transpose("direction", "unit")).values(),
            (p.values for p in by_subject(both).values()),
            strict=True,
        )
    ]
    for each in maps:  # Wᵢᵀ Wᵢ = 1, and so S is their mean
        np.testing.assert_allclose(each @ each.T, np.eye(3), atol=1e-8)
    S = np.mean([x @ w.T for x, w in zip(X, maps, strict=True)], axis=0)
    left = sum(((x - S @ w) ** 2).sum() for x, w in zip(X, maps, strict=True)) / 3
    assert space.objective_ == pytest.approx(left, abs=1e-8)
    np.testing.assert_allclose(space.transform(both), S * np.sqrt(n_stimuli), atol=1e-8)


@pytest.mark.parametrize("n_stimuli", [200, 25])
def test_procrustes_of_two_subjects_is_the_rotation_of_their_principal_components(n_stimuli):
    both = planted(n_stimuli)
    both = both[:, (both.subject != "C").values]
    space = SharedSpace(4, dtype="float64").fit(both)
    A, B = (U[:, :4] * s[:4] for U, s, _ in (np.linalg.svd(X, full_matrices=False) for X in scaled(both)))
    rotation, _ = orthogonal_procrustes(A, B)
    left = ((A @ rotation - B) ** 2).sum() / 2 / ((A**2).sum() + (B**2).sum())
    assert space.objective_ == pytest.approx(left, abs=1e-8)


@pytest.mark.parametrize("penalty", [None, 0.3])
@pytest.mark.parametrize("n_stimuli", [200, 25])
def test_ridge_predicts_the_components_of_the_reference(penalty, n_stimuli):
    both = planted(n_stimuli, noise=2)
    space = SharedSpace(3, method="ridge", reference="B", penalty=penalty, dtype="float64").fit(both)
    X = dict(zip("ABC", scaled(both), strict=True))
    U, s, _ = np.linalg.svd(X["B"], full_matrices=False)
    target = U[:, :3] * s[:3]
    predicted = {"B": target}
    for name in "AC":
        variance = np.linalg.svd(X[name], compute_uv=False) ** 2
        variance = variance[variance > 1e-10 * variance[0]]
        fits = []
        for p in PENALTIES if penalty is None else [penalty]:
            alpha = p * variance.mean()
            fitted = Ridge(alpha, fit_intercept=False).fit(X[name], target).predict(X[name])
            df = (variance / (variance + alpha)).sum()
            fits.append((((target - fitted) ** 2).sum() / (n_stimuli - 1 - df) ** 2, fitted))
        predicted[name] = min(fits, key=lambda each: each[0])[1]
    S = np.mean(list(predicted.values()), axis=0) * np.sqrt(n_stimuli)
    codes = space.transform(both).values
    axes = np.linalg.lstsq(S, codes, rcond=None)[0]
    np.testing.assert_allclose(S @ axes, codes, atol=1e-7)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)


@methods
def test_planted_signals_are_shared_on_other_stimuli_and_independent_ones_are_not(method):
    both, apart = planted(600, noise=1), planted(600, noise=1, shared=False)
    fitted, null = (SharedSpace(4, method=method).fit(each[:300]) for each in (both, apart))
    assert (agreement(fitted, both[300:]) > 0.8).all()
    assert np.abs(agreement(null, apart[300:])).mean() < 2.5 / np.sqrt(300)
    few = SharedSpace(4, method=method).fit(apart[:20])  # fewer stimuli than units: any subjects fit together
    assert np.abs(agreement(few, apart[300:])).mean() < 2.5 / np.sqrt(300) * (2 if method == "ridge" else 1)


def test_srm_finds_shared_signals_of_small_variance_and_procrustes_does_not():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 1))
    private = [2**0.5 * rng.normal(size=(400, 1)) for _ in range(3)]
    parts = [np.hstack([own, shared]) @ np.linalg.qr(rng.normal(size=(6, 2)))[0].T for own in private]
    both = concatenate_systems(
        {name: system(part + 0.1 * rng.normal(size=(400, 6))) for name, part in zip("ABC", parts, strict=True)}
    )
    # the first component of each is private; but the mean of three independent ones has a third of their variance
    r = {
        method: agreement(SharedSpace(1, method=method).fit(both[:200]), both[200:])[0]
        for method in ("srm", "procrustes")
    }
    assert r["srm"] > 0.8
    assert r["procrustes"] < 0.3


@methods
def test_one_subject_twice_leaves_no_error(method):
    one = planted(100)
    one = by_subject(one)["A"].drop_vars("subject")
    both = concatenate_systems({"first": one, "second": one})
    space = SharedSpace(5, method=method, penalty=0.0 if method == "ridge" else None, dtype="float64").fit(both)
    # what no five directions explain is left by "srm", whose objective is of all variance
    rest = (np.linalg.svd(scaled(both)[0], compute_uv=False)[5:] ** 2).sum() if method == "srm" else 0
    assert space.objective_ == pytest.approx(rest, abs=1e-10)
    first, second = (space.transform(part) for part in by_subject(both).values())
    np.testing.assert_allclose(first, second, atol=1e-8)


@pytest.mark.parametrize("method", ["procrustes", "srm"])
def test_the_objective_never_rises(method):
    space = SharedSpace(4, method=method, tol=None, max_iter=30).fit(planted(100, noise=3))
    assert len(space.learning_curve_) == space.n_iter_ == 30
    assert (np.diff(space.learning_curve_) <= 1e-12).all()
    with pytest.warns(ConvergenceWarning, match="stopped after 2 iterations while the objective still fell"):
        SharedSpace(4, method=method, max_iter=2, tol=0).fit(planted(100, noise=3))


@methods
@pytest.mark.parametrize("n_stimuli", [150, 40])
def test_order_scale_and_chunks_change_nothing(method, n_stimuli):
    both = planted(n_stimuli)
    space = SharedSpace(4, method=method, dtype="float64")
    expected = clone(space).fit(both)
    rng = np.random.default_rng(1)
    shuffled = both[rng.permutation(n_stimuli), rng.permutation(both.sizes["unit"])]
    lazy = both.chunk(stimulus=13)
    for other in (shuffled, lazy):
        fitted = clone(space).fit(other)
        codes = fitted.transform(other)
        assert (codes.chunks is None) == (other is shuffled)
        np.testing.assert_allclose(codes.sel(stimulus=both.stimulus).values, expected.transform(both), atol=1e-7)
        assert fitted.objective_ == pytest.approx(expected.objective_, abs=1e-9)
    tiny = 1e-13 * both
    fitted = clone(space).fit(tiny)
    np.testing.assert_allclose(fitted.transform(tiny), expected.transform(both), atol=1e-7)
    np.testing.assert_allclose(1e-13 * fitted.lengths_, expected.lengths_, rtol=1e-7)
    assert fitted.transform(tiny).attrs["units"] == "1"


@methods
def test_it_survives_files_clone_and_pickle(method, tmp_path):
    both = planted(80)
    space = SharedSpace(4, method=method)
    fitted = clone(space).fit(both)
    np.testing.assert_allclose(np.linalg.norm(fitted.directions_, axis=1), 1, rtol=1e-5)
    xr.testing.assert_equal(fitted.directions_.subject, both.subject)
    fitted.to_dataset().to_netcdf(tmp_path / "space.nc")
    fitted.to_dataset().to_zarr(tmp_path / "space.zarr", consolidated=False)
    read = [
        SharedSpace.from_dataset(xr.load_dataset(tmp_path / "space.nc")),
        SharedSpace.from_dataset(xr.open_zarr(tmp_path / "space.zarr", consolidated=False)),
        pickle.loads(pickle.dumps(fitted)),
    ]
    for again in read:
        assert repr(again) == repr(space)
        for part in (both, by_subject(both)["B"]):
            np.testing.assert_allclose(again.transform(part), fitted.transform(part))
    assert not hasattr(clone(fitted), "directions_")


@methods
def test_inverse_gives_every_subject_responses_with_these_codes(method):
    both = planted(80).assign_coords(category=("stimulus", ["face", "tool"] * 40))
    fitted = SharedSpace(4, method=method, dtype="float64").fit(both)
    codes = fitted.transform(both)
    xr.testing.assert_equal(codes.category, both.category)
    back = fitted.inverse_transform(codes)
    assert back.indexes["unit"].equals(both.indexes["unit"])
    for part in (back, *by_subject(back).values()):
        np.testing.assert_allclose(fitted.transform(part), codes, atol=1e-8)
    two = xr.concat([by_subject(both)[name] for name in "CA"], "unit")
    mean = (fitted.transform(by_subject(both)["A"]) + fitted.transform(by_subject(both)["C"])) / 2
    np.testing.assert_allclose(fitted.transform(two), mean, atol=1e-10)
    assert fitted.explained_variance(both) > 0.5


def test_directions_are_uncorrelated_and_skewed_to_the_right():
    both = planted(300)
    codes = SharedSpace(4, dtype="float64").fit_transform(both).values
    C = np.cov(codes.T)
    np.testing.assert_allclose(C, np.diag(C.diagonal()), atol=1e-10)
    assert (np.diff(C.diagonal()) < 0).all()
    assert ((codes - codes.mean(0)) ** 3).mean(0).min() > 0


def test_it_is_a_finder_of_a_comparison(images):
    both = planted(120)
    table = compare({"both": both}, images, [SharedSpace(4)], [Color(device="cpu")])
    assert (table.finder == "SharedSpace").sum() == 4
    assert table.finder.values[-1] == "CovarianceMatched"
    assert np.isfinite(table.interpretability).all()


def test_bad_input_is_refused_in_one_line():
    both = planted(80)
    cases = [
        (SharedSpace(4), both.drop_vars("subject"), "units have no coord 'subject'"),
        (SharedSpace(4), by_subject(both)["A"], "a shared space needs at least 2 subjects, got only 'A'"),
        (SharedSpace(13), both, r"cannot give 13 directions: subject 'C' varies along 12 \(80 stimuli × 12 units\)"),
        (SharedSpace(4, method="cca"), both, "method must be one of 'procrustes', 'srm', 'ridge'; got 'cca'"),
        (SharedSpace(4, method="ridge", reference="D"), both, "reference must be one of the subjects 'A', 'B', 'C'"),
        (SharedSpace(4, method="ridge", penalty=-1), both, "penalty must be None or a number of at least 0, got -1"),
        (SharedSpace(4, max_iter=0), both, "max_iter must be a whole number of at least 1"),
        (SharedSpace(4, tol=-1), both, "tol must be a number of at least 0"),
        (SharedSpace(4), both.where(both.unit != "B/u3"), "NaN or infinite values, in unit 'B/u3'"),
        (SharedSpace(4), both * (both.unit != "B/u3"), "zero variance over stimuli in unit 'B/u3'"),
    ]
    for finder, responses, message in cases:
        with pytest.raises(ValueError, match=message):
            finder.fit(responses)
    fitted = SharedSpace(4).fit(both)
    with pytest.raises(ValueError, match=r"subject 'D' is not among those of the fit, 'A', 'B', 'C'; fit again"):
        fitted.transform(
            concatenate_systems({"A": by_subject(both)["A"].drop_vars("subject"), "D": system(np.eye(80, 3))})
        )
    with pytest.raises(ValueError, match="they differ in 'A/u0'"):
        fitted.transform(by_subject(both)["A"][:, 1:])
    with pytest.raises(ValueError, match=r"has no directions yet; call \.fit"):
        SharedSpace(4).transform(both)
    with pytest.raises(ValueError, match="units have no coord 'subject'"):
        SharedSpace(4).fit(both.values)
    assert SharedSpace().fit(both).directions_.sizes["direction"] == 12
    with pytest.warns(UserWarning, match="finds 12 directions, not 31"):
        SharedSpace("0.5x").fit(both)
