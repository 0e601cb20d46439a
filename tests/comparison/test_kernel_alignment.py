"""CKA is its definition, 0 for independent systems, and not lowered by noise where there are repetitions."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neurosuper.comparison import cka, kernel_alignment

FAST = {"n_permutations": 19, "n_resamples": 0}


def system(values, unit: str = "u") -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"{unit}{i}" for i in range(values.shape[-1])],
    }
    return xr.DataArray(
        values, coords, ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    )


def hsic(K, L):
    """Return the unbiased estimate of Song et al. 2012 by its definition: a mean over all four different stimuli."""
    n = len(K)
    total = 0.0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


@pytest.mark.parametrize(("p", "q"), [(3, 4), (40, 50)])  # products of items, and of stimuli
def test_debiased_cka_is_its_definition(p, q):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(9, p))
    B = rng.normal(size=(9, q)) + A[:, :1]
    K, L = A @ A.T, B @ B.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    np.testing.assert_allclose(cka(system(A), system(B), **FAST).estimate, expected, rtol=1e-8)


def test_cka_without_debiasing_is_its_definition():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(20, 3)), rng.normal(size=(20, 5))
    H = np.eye(20) - 1 / 20
    K, L = H @ A @ A.T @ H, H @ B @ B.T @ H
    expected = (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L)
    found = cka(system(A), system(B), debias="none", **FAST)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-10)


@pytest.mark.parametrize("debias", ["stimuli", "none"])
def test_a_rotation_and_a_scale_keep_one(debias):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 6))
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(cka(system(A), system(3 * A @ Q), debias=debias, **FAST).estimate, 1)


def test_independent_systems_with_many_units_score_near_zero_only_when_debiased():
    rng = np.random.default_rng(0)
    a, b = (system(rng.normal(size=(300, 3000))) for _ in range(2))
    assert abs(cka(a, b, **FAST).estimate) < 0.01
    assert cka(a, b, debias="none", **FAST).estimate > 0.9


@pytest.mark.parametrize("n_repetitions", [1, 2])
def test_samples_of_units_give_the_result_of_all_units_only_when_corrected_for(n_repetitions):
    rng, options = np.random.default_rng(0), {"n_permutations": 0, "n_resamples": 0}
    Z, variances = rng.normal(size=(60, 20)), np.linspace(0.2, 2, 20)
    # infinitely many units x = Z w, where w are normal with covariance C, have the mean product Z C Zᵀ
    systems = Z * np.sqrt(variances), Z * np.sqrt(variances[::-1])
    truth = cka(*map(system, systems), **options).estimate.item()
    parts = _parts(*map(system, systems), "stimuli")

    def sample(latent) -> xr.DataArray:
        x = latent @ rng.normal(size=(20, 20))
        return system(x if n_repetitions == 1 else x[:, None] + rng.normal(size=(60, n_repetitions, 20)))

    pairs = [(sample(systems[0]), sample(systems[1])) for _ in range(100)]
    found = np.array([_parts(*pair, "both") for pair in pairs]) / 20**2
    assert (np.abs(found.mean(axis=0) - parts) < 3 * found.std(axis=0) / np.sqrt(100)).all()
    both, stimuli = (np.mean([cka(*pair, debias=each, **options).estimate for pair in pairs]) for each in DEBIAS)
    assert abs(both - truth) < 0.06  # of a ratio of unbiased estimates
    assert stimuli < truth - 0.2


DEBIAS = ("both", "stimuli")


def _parts(a, b, debias):
    """Return the numerator of CKA, and the two terms below the root."""
    A, B = kernel_alignment._read(a, b, debias)
    own = kernel_alignment._own
    return kernel_alignment._across(A, B, debias), own(A, debias), own(B, debias)


def test_the_correction_for_sampled_units_is_its_definition():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(9, 4)) + rng.normal(size=(9, 1))
    B = rng.normal(size=(9, 5)) + 2 * A[:, :1]

    def of_pairs(X):
        p = X.shape[1]
        pairs = [hsic(np.outer(X[:, i], X[:, i]), np.outer(X[:, j], X[:, j])) for i in range(p) for j in range(i)]
        return np.mean(pairs) * p**2

    expected = hsic(A @ A.T, B @ B.T) / np.sqrt(of_pairs(A) * of_pairs(B))
    np.testing.assert_allclose(cka(system(A), system(B), debias="both", **FAST).estimate, expected, rtol=1e-8)


@pytest.mark.parametrize("debias", ["stimuli", "both", "none"])
def test_products_of_items_and_of_stimuli_by_any_blocks_give_the_same(debias, monkeypatch):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(30, 1, 5))
    a = system(np.concatenate([signal] * 5, 2) + rng.normal(size=(30, 2, 25))).chunk({"stimulus": 7, "unit": 4})
    b = system(np.concatenate([signal] * 4, 2) + rng.normal(size=(30, 3, 20)))
    options = {"debias": debias, "n_permutations": 19, "n_resamples": 10}
    of_items = cka(a.compute(), b, **options)
    monkeypatch.setattr("neurosuper.comparison.kernel_products.BLOCK", 200)
    by_blocks = cka(a, b, **options)
    monkeypatch.setattr("neurosuper.comparison.kernel_alignment.SPEED", 0)
    monkeypatch.setattr("neurosuper.comparison.kernel_products.READ", 300)
    of_stimuli = cka(a, b, **options)
    xr.testing.assert_allclose(by_blocks, of_items, rtol=1e-10)
    xr.testing.assert_allclose(of_stimuli, of_items, rtol=1e-10)


def test_blocks_are_read_one_after_the_other(monkeypatch):
    monkeypatch.setattr("neurosuper.comparison.kernel_products.READ", 30 * 64)
    rng, read = np.random.default_rng(0), []
    values = rng.normal(size=(30, 512))
    lazy = system(values).chunk({"unit": 64})
    seen = lazy.copy(data=lazy.data.map_blocks(lambda block: read.append(block.shape) or block, dtype=float))
    read.clear()  # what dask calls to learn the type
    found = cka(seen, seen, n_permutations=0, n_resamples=0)
    np.testing.assert_allclose(found.estimate, 1)
    assert read == [(30, 64)] * 16


def test_repetitions_take_the_noise_out():
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        signal = rng.normal(size=(120, 6))
        turned = signal @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
        a, b = (system(each[:, None] + rng.normal(size=(120, 3, 6))) for each in (signal, turned))
        averages = a.mean("repetition"), b.mean("repetition")
        found.append((cka(a, b, **FAST).estimate.item(), cka(*averages, **FAST).estimate.item()))
    with_repetitions, of_averages = np.mean(found, axis=0)
    assert abs(with_repetitions - 1) < 0.05
    assert of_averages < 0.75


def test_p_is_uniform_and_a_shared_signal_is_found():
    rng = np.random.default_rng(0)
    p = [cka(*(system(rng.normal(size=(20, 5))) for _ in range(2)), **FAST).p_value.item() for _ in range(150)]
    assert stats.kstest(np.array(p) - rng.uniform(0, 0.05, 150), "uniform").pvalue > 0.01
    signal = rng.normal(size=(40, 5))
    a, b = (system(signal + rng.normal(size=signal.shape)) for _ in range(2))
    found = cka(a, b, n_permutations=99, n_resamples=20)
    assert found.p_value == 0.01
    assert found.estimate_low < found.estimate < found.estimate_high


def test_order_of_stimuli_and_units_is_irrelevant():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(20, 4))), system(rng.normal(size=(20, 5)))
    order = rng.permutation(20)
    np.testing.assert_allclose(cka(a[order, ::-1], b, **FAST).estimate, cka(a, b, **FAST).estimate)
    np.testing.assert_allclose(cka(a, b[order].chunk(), **FAST).estimate, cka(a, b, **FAST).estimate)


def test_groups_are_halved_whole():
    rng = np.random.default_rng(0)
    bursts = np.repeat(np.arange(10), 5)
    drive = rng.normal(size=(10, 4))[bursts]
    a, b = (system(drive + 0.1 * rng.normal(size=(50, 4))) for _ in range(2))
    a = a.assign_coords(burst=("stimulus", bursts))
    alone, whole = (cka(a, b, n_permutations=19, n_resamples=40, **each) for each in ({}, {"stimulus_groups": "burst"}))
    assert (whole.estimate_high - whole.estimate_low) > (alone.estimate_high - alone.estimate_low)


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(20, 4))), system(rng.normal(size=(20, 5)))
    with (
        pytest.raises(ValueError, match="7 common stimuli are too few; use at least 8"),
        pytest.warns(UserWarning, match="left out"),
    ):
        cka(a, b[:7])
    with pytest.raises(ValueError, match="NaN or infinite values in unit 'u1'"):
        cka(a.where((a.unit != "u1") | (a.stimulus != "s003")), b)
    with pytest.raises(ValueError, match="debias must be one of 'stimuli', 'both', 'none'"):
        cka(a, b, debias="units")
    with pytest.raises(ValueError, match="n_permutations must be a whole number of at least 19"):
        cka(a, b, n_permutations=5)
    with pytest.raises(ValueError, match="the repetitions of a system share no signal"):
        cka(_no_signal(), b)
    with pytest.raises(ValueError, match="the items of a system share no signal"):
        cka(_no_signal()[:, 0], b, debias="both")
    with pytest.raises(ValueError, match="debias='both' needs at least 2 items in each system"):
        cka(a[:, :1], b, debias="both")
    with pytest.raises(ValueError, match="no stimulus label in common"):
        cka(a, b.assign_coords(stimulus=b.stimulus.str.upper()))
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u2'"):
        cka(a, b.where(b.unit != "u2", 3.0))
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u2'"):
        cka(a.chunk(), b.where(b.unit != "u2", 3.0).chunk())


def _no_signal() -> xr.DataArray:
    """Return two repetitions whose products of any two stimuli have opposite signs."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=(20, 2))
    second = np.stack([first[:, 1], -first[:, 0]], axis=1) * np.where(np.arange(20) % 2, 1, -1)[:, None]
    return system(np.stack([first, second], axis=1))


def test_p_of_bursts_counts_whole_bursts():
    """Frames of a burst have nearly the same responses: shuffled one by one, independent systems seem to be related."""

    def burst_system(seed):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=(16, 5)), 5, axis=0) + 0.1 * rng.normal(size=(80, 5))
        coords = {"stimulus": np.arange(80).astype(str), "unit": list("abcde")}
        system = xr.DataArray(values, coords, ("stimulus", "unit"))
        return system.assign_coords(burst=("stimulus", np.repeat(np.arange(16), 5)))

    def share(groups):
        settings = {"stimulus_groups": groups, "n_permutations": 39, "n_resamples": 0}
        p = [cka(burst_system(2 * i), burst_system(2 * i + 1), **settings).p_value.item() for i in range(60)]
        return np.mean(np.array(p) <= 0.05)

    assert share(None) > 0.3
    assert share("burst") <= 0.15  # 5 % of 60, and three standard errors
